"""The errors that headrace raises on purpose. This module knows no web framework.

Each class has an HTTP status and a stable ``code``. Its docstring is the message, unless the caller
gives one. Services raise these errors; ``headrace.edge`` renders them as ``{"detail", "code"}``.
A few rooms add subclasses of their own. ::

    HeadraceError
    ├── RequestError                   500  the answer to one request
    │   ├── BadRequest                 400
    │   ├── Forbidden                  403
    │   │   ├── StrangerRefused        403
    │   │   └── SystemAssistant        403
    │   ├── InvalidRequest             422
    │   │   ├── MalformedJSON          422
    │   │   └── IdempotencyKeyReused   422
    │   ├── Unauthenticated            401
    │   ├── NotFound                   404
    │   │   ├── ThreadNotFound         404
    │   │   ├── RunNotFound            404
    │   │   ├── AssistantNotFound      404
    │   │   ├── GraphNotFound          404
    │   │   └── CheckpointNotFound     404
    │   ├── Conflict                   409
    │   │   ├── ThreadExists           409
    │   │   ├── ThreadBusy             409
    │   │   ├── AssistantExists        409
    │   │   ├── AssistantChanged       409
    │   │   ├── RunForgotten           409
    │   │   └── ResumeRefused          409
    │   ├── PayloadTooLarge            413
    │   │   ├── AnswerTooLarge         413
    │   │   └── CheckpointTooLarge     413
    │   ├── TooManyRequests            429  this caller has too much in progress
    │   │   ├── CallerShareUsed        429
    │   │   └── TooManyQueuedRuns      429
    │   └── Unavailable                503  try again later, or on another process
    │       ├── DatabaseUnavailable    503
    │       │   └── StatementTooSlow   503
    │       ├── Overloaded             503
    │       ├── PoolExhausted          503
    │       ├── PoolShareFull          503
    │       ├── RunStillStopping       503
    │       ├── UpdateTooSlow          503
    │       ├── TooManyStreams         503
    │       ├── TooManyAnswers         503
    │       ├── AnswersFull            503
    │       ├── BodiesFull             503
    │       ├── TooManyPublicRequests  503
    │       ├── GraphNotMade           503
    │       └── Draining               503
    ├── StartupRefusal                      the process does not start: code, what, where, remedy
    ├── LeaseLost                           this process no longer owns the run
    └── TokenBudgetExceeded                 the run ends as error: its models may use no more tokens
"""

import inspect
import random
from typing import ClassVar

#: The address of the documentation. An installed headrace contains only ``docs/errors.md``.
DOCUMENTATION = "https://github.com/headrace/headrace/blob/main/docs"


class HeadraceError(Exception):
    """headrace found an error."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or type(self).__name__))

    @property
    def message(self) -> str:
        return str(self.args[0])


class RequestError(HeadraceError):
    """The server could not answer this request."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    #: Sent as ``Retry-After`` when set.
    retry_after_seconds: int | None = None


class BadRequest(RequestError):
    """The request contradicts itself."""

    status = 400
    code = "bad_request"


class Forbidden(RequestError):
    """The caller may not do this."""

    status = 403
    code = "forbidden"


class SystemAssistant(Forbidden):
    """The server owns a graph's first assistant; create one of your own to change or delete it."""

    code = "system_assistant"


class StrangerRefused(Forbidden):
    """This server has no API keys, so it answers only callers on its own machine.

    Set HEADRACE_API_KEYS and send a key as x-api-key. If a proxy authenticates the callers, set
    HEADRACE_AUTH=none.
    """

    code = "stranger_refused"

    def __init__(self) -> None:
        super().__init__(" ".join((type(self).__doc__ or "").split()))


class InvalidRequest(RequestError):
    """The request is not valid."""

    status = 422
    code = "invalid_request"


class MalformedJSON(InvalidRequest):
    """The request body is not valid JSON."""

    code = "malformed_json"


class IdempotencyKeyReused(InvalidRequest):
    """An earlier request with this Idempotency-Key had another body; send a new key."""

    code = "idempotency_key_reused"


class Unauthenticated(RequestError):
    """The server does not know this caller."""

    status = 401
    code = "unauthenticated"


class NotFound(RequestError):
    """Not found."""

    status = 404
    code = "not_found"


class ThreadNotFound(NotFound):
    """Thread not found."""

    code = "thread_not_found"


class RunNotFound(NotFound):
    """Run not found."""

    code = "run_not_found"


class AssistantNotFound(NotFound):
    """Assistant not found."""

    code = "assistant_not_found"


class GraphNotFound(NotFound):
    """Graph not found."""

    code = "graph_not_found"


class CheckpointNotFound(NotFound):
    """Checkpoint not found."""

    code = "checkpoint_not_found"


class Conflict(RequestError):
    """The request conflicts with the current state."""

    status = 409
    code = "conflict"


class ThreadExists(Conflict):
    """A thread with this id already exists; send if_exists=do_nothing to use it."""

    code = "thread_exists"


class ThreadBusy(Conflict):
    """Thread is already running a task. Wait for it, or choose a different multitask strategy."""

    code = "thread_busy"


class AssistantExists(Conflict):
    """An assistant with this id already exists; send if_exists=do_nothing to use it."""

    code = "assistant_exists"


class AssistantChanged(Conflict):
    """The assistant was changed several times while the run was started; send it again."""

    code = "assistant_changed"


class RunForgotten(Conflict):
    """The run of this Idempotency-Key has ended and is deleted; send a new key for a new run."""

    code = "run_forgotten"


class ResumeRefused(Conflict):
    """The resume does not answer what the thread waits for; read the thread's interrupts."""

    code = "resume_refused"


class PayloadTooLarge(RequestError):
    """The request body is too large."""

    status = 413
    code = "payload_too_large"


class AnswerTooLarge(PayloadTooLarge):
    """The state is larger than an answer may be; ask for parts of it."""

    code = "answer_too_large"


class CheckpointTooLarge(PayloadTooLarge):
    """The checkpoint is too large to be stored; keep less in the state."""

    code = "checkpoint_too_large"


class TooManyRequests(RequestError):
    """This caller has too many requests or runs in progress; try again when some have ended."""

    status = 429
    code = "too_many_requests"
    retry_after_seconds = 2


class CallerShareUsed(TooManyRequests):
    """This caller uses its whole share of this process; end some requests, or try again."""

    code = "caller_share_used"


class TooManyQueuedRuns(TooManyRequests):
    """Too many runs of this caller wait in the queue; try again when some have ended."""

    code = "too_many_queued_runs"
    retry_after_seconds = 5


class Unavailable(RequestError):
    """The server cannot take this request now; try again."""

    status = 503
    code = "unavailable"
    retry_after_seconds = 1


class DatabaseUnavailable(Unavailable):
    """The database does not answer; try again."""

    code = "database_unavailable"
    retry_after_seconds = 2


class StatementTooSlow(DatabaseUnavailable):
    """The database did not finish in its time limit; ask for less, or try again later."""

    code = "statement_too_slow"
    retry_after_seconds = 5


class Overloaded(Unavailable):
    """This process has more requests than it can work on; try again."""

    code = "overloaded"

    def __init__(self) -> None:
        super().__init__()
        # Callers that were refused together should not come back together.
        self.retry_after_seconds = random.randint(1, 3)  # noqa: S311 - no secret


class PoolExhausted(Unavailable):
    """No database connection became free in time; try again."""

    code = "pool_exhausted"


class PoolShareFull(Unavailable):
    """Requests of this kind use their whole part of the database pool; try again."""

    code = "pool_share_full"
    retry_after_seconds = 2


class RunStillStopping(Unavailable):
    """The run has not stopped yet; try again."""

    code = "run_still_stopping"


class UpdateTooSlow(Unavailable):
    """The change of the thread's state took too long; nothing has changed."""

    code = "update_too_slow"


class TooManyStreams(Unavailable):
    """This process streams as many threads as events.max_thread_streams allows; try again."""

    code = "too_many_streams"


class TooManyAnswers(Unavailable):
    """This process has no place for another stream, wait or join; try again."""

    code = "too_many_answers"


class AnswersFull(Unavailable):
    """Other answers use all the memory of this process for large states; try again."""

    code = "answers_full"
    retry_after_seconds = 2


class BodiesFull(Unavailable):
    """Other requests use all the memory of this process for large bodies; try again."""

    code = "bodies_full"
    retry_after_seconds = 2


class TooManyPublicRequests(Unavailable):
    """Too many public requests, which need no key, wait in this process; try again."""

    code = "too_many_public_requests"
    retry_after_seconds = 2


class GraphNotMade(Unavailable):
    """The graph's factory failed, or took too long."""

    code = "graph_not_made"
    retry_after_seconds = 5


class Draining(Unavailable):
    """The server is shutting down and takes no new runs; try again."""

    code = "draining"


class LeaseLost(HeadraceError):
    """This process has lost its lease, and another process may own the run."""


class TokenBudgetExceeded(HeadraceError):
    """A budget of tokens is spent: the run may ask no model any more, and ends as ``error``."""


class StartupRefusal(HeadraceError):
    """headrace refuses to start.

    ``code`` is stable (``HR102``). ``where`` names the file, setting or address. ``what`` is the
    error there, and ``remedy`` the change to make. The message ends with the command that prints
    the code's entry in ``docs/errors.md``.
    """

    def __init__(self, code: str, *, where: str, what: str, remedy: str) -> None:
        self.code = code
        self.where = where
        self.what = what
        self.remedy = remedy
        super().__init__(f"{code} {where}: {what}. {remedy} (headrace explain {code})")
