"""Every error headrace raises on purpose; no web framework is known here.

The class carries the HTTP status and a stable ``code``; its docstring is the message unless one is
given. Services raise these, ``headrace.edge`` renders them once as ``{"detail", "code"}``::

    HeadraceError
    ├── RequestError                   500  an error that one request is answered with
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
    │   │   └── RunForgotten           409
    │   ├── PayloadTooLarge            413
    │   │   ├── AnswerTooLarge         413
    │   │   └── CheckpointTooLarge     413
    │   ├── TooManyRequests            429  this caller is to end something, or to try later
    │   │   ├── CallerShareUsed        429
    │   │   └── TooManyQueuedRuns      429
    │   └── Unavailable                503  try again later, here or elsewhere
    │       ├── DatabaseUnavailable    503
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
    ├── StartupRefusal                      the process will not start: code, what, where, remedy
    └── LeaseLost                           this process no longer owns the run it works on
    UserExit                                a BaseException: user code wanted to end the process
"""

import inspect
from typing import ClassVar

#: Where the pages are that an installed headrace does not have.
DOCUMENTATION = "https://github.com/headrace/headrace/blob/main/docs"


class HeadraceError(Exception):
    """Something headrace noticed went wrong."""

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
    retry_after_seconds: ClassVar[int | None] = None


class BadRequest(RequestError):
    """The request contradicts itself."""

    status = 400
    code = "bad_request"


class Forbidden(RequestError):
    """The caller may not do this."""

    status = 403
    code = "forbidden"


class SystemAssistant(Forbidden):
    """Each graph's first assistant is the server's; create one of your own to change or delete."""

    code = "system_assistant"


class StrangerRefused(Forbidden):
    """This server has no API keys, so it answers callers of its own machine alone.

    Set HEADRACE_API_KEYS, and send one as x-api-key; or HEADRACE_AUTH=none, where something in
    front asks who calls.
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
    """This Idempotency-Key came with another body before; send a new key for a new request."""

    code = "idempotency_key_reused"


class Unauthenticated(RequestError):
    """Who calls is not known."""

    status = 401
    code = "unauthenticated"


class NotFound(RequestError):
    """There is no such thing here."""

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
    """The request conflicts with the present state."""

    status = 409
    code = "conflict"


class ThreadExists(Conflict):
    """A thread with this id already exists; send if_exists=do_nothing to take it as it is."""

    code = "thread_exists"


class ThreadBusy(Conflict):
    """Thread is already running a task. Wait for it, or choose a different multitask strategy."""

    code = "thread_busy"


class AssistantExists(Conflict):
    """An assistant with this id already exists; send if_exists=do_nothing to take it as it is."""

    code = "assistant_exists"


class AssistantChanged(Conflict):
    """The assistant is changed again and again while the run is to start; send it once more."""

    code = "assistant_changed"


class RunForgotten(Conflict):
    """The run of this Idempotency-Key has ended and is gone; send a new key for a new run."""

    code = "run_forgotten"


class PayloadTooLarge(RequestError):
    """The request body is too large."""

    status = 413
    code = "payload_too_large"


class AnswerTooLarge(PayloadTooLarge):
    """The state is larger than an answer may be; ask for parts of it."""

    code = "answer_too_large"


class CheckpointTooLarge(PayloadTooLarge):
    """A checkpoint would hold more than is written at once; keep less in the state."""

    code = "checkpoint_too_large"


class TooManyRequests(RequestError):
    """This caller has too much under way; let some of it end, then try again."""

    status = 429
    code = "too_many_requests"
    retry_after_seconds = 2


class CallerShareUsed(TooManyRequests):
    """This caller holds its share of what all callers share; end some of it, or try again."""

    code = "caller_share_used"


class TooManyQueuedRuns(TooManyRequests):
    """As many runs of this caller wait in the queue as may; wait until some have ended."""

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


class PoolExhausted(Unavailable):
    """No database connection became free in time; try again."""

    code = "pool_exhausted"


class PoolShareFull(Unavailable):
    """The part of the database pool for requests like this one did not become free; try again."""

    code = "pool_share_full"
    retry_after_seconds = 2


class RunStillStopping(Unavailable):
    """The run was asked to stop and has not yet; try again."""

    code = "run_still_stopping"


class UpdateTooSlow(Unavailable):
    """The change of a thread's state took too long; nothing has changed."""

    code = "update_too_slow"


class TooManyStreams(Unavailable):
    """This process streams as many threads as events.max_thread_streams allows; try again."""

    code = "too_many_streams"


class TooManyAnswers(Unavailable):
    """This process has as many streams, waits and joins under way as it has connections."""

    code = "too_many_answers"


class AnswersFull(Unavailable):
    """Answers with large states take all the memory that this process has for them; try again."""

    code = "answers_full"
    retry_after_seconds = 2


class BodiesFull(Unavailable):
    """Large request bodies take all the memory that this process has for them; try again."""

    code = "bodies_full"
    retry_after_seconds = 2


class TooManyPublicRequests(Unavailable):
    """Too many requests without a key wait in this process; try again."""

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
    """This process has lost its lease and with it the run."""


class StartupRefusal(HeadraceError):
    """headrace will not start like this.

    ``code`` is stable (``HR102``); ``where`` names the file, setting or address; ``what`` says what
    is wrong there; ``remedy`` what to change. Printed as one sentence that ends with the command
    which prints its entry of ``docs/errors.md``.
    """

    def __init__(self, code: str, *, where: str, what: str, remedy: str) -> None:
        self.code = code
        self.where = where
        self.what = what
        self.remedy = remedy
        super().__init__(f"{code} {where}: {what}. {remedy} (headrace explain {code})")


class UserExit(BaseException):
    """User code raised SystemExit, KeyboardInterrupt or GeneratorExit in a task of its own.

    asyncio lets the first two out of the event loop, and the process ends. At the edge of the task
    they become this. It is no ``Exception``: code that handles every ``Exception`` does not handle
    this, as it would not handle the original.
    """

    def __init__(self, original: BaseException) -> None:
        super().__init__(original)
        self.original = original

    def __str__(self) -> str:
        return f"{type(self.original).__name__}: {self.original}"
