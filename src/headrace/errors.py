"""The errors that headrace raises on purpose. This module knows no web framework.

Each class has an HTTP status and a stable ``code``. Its docstring is the message, unless the caller
gives one. Services raise these errors; ``headrace.edge`` renders them as ``{"detail", "code"}``.
A few rooms add subclasses of their own. ::

    HeadraceError
    ├── RequestError                   500  the answer to one request
    │   ├── BadRequest                 400
    │   ├── Forbidden                  403
    │   │   ├── CronOfAnother          403
    │   │   ├── HostRefused            403
    │   │   ├── PageRefused            403
    │   │   ├── ReadOnly               403
    │   │   ├── StrangerRefused        403
    │   │   ├── SystemAssistant        403
    │   │   └── WebSocketsOff          403
    │   ├── InvalidRequest             422
    │   │   ├── MalformedJSON          422
    │   │   ├── IdempotencyKeyReused   422
    │   │   └── EmbeddingRefused       422
    │   ├── Unauthenticated            401
    │   ├── NotFound                   404
    │   │   ├── ThreadNotFound         404
    │   │   ├── RunNotFound            404
    │   │   ├── AssistantNotFound      404
    │   │   ├── CronNotFound           404
    │   │   ├── GraphNotFound          404
    │   │   └── CheckpointNotFound     404
    │   ├── Conflict                   409
    │   │   ├── ThreadExists           409
    │   │   ├── StrayCheckpoints       409
    │   │   ├── ThreadBusy             409
    │   │   ├── AssistantExists        409
    │   │   ├── AssistantChanged       409
    │   │   ├── TooManyCrons           409
    │   │   ├── CronChanged            409
    │   │   ├── RunForgotten           409
    │   │   ├── ResumeRefused          409
    │   │   └── TypeNotAllowed         409
    │   ├── PayloadTooLarge            413
    │   │   ├── AnswerTooLarge         413
    │   │   └── CheckpointTooLarge     413
    │   ├── JSONRequired               415
    │   ├── TooManyRequests            429  this caller has too much in progress
    │   │   ├── CallerShareUsed        429
    │   │   ├── RateLimited            429
    │   │   └── TooManyQueuedRuns      429
    │   └── Unavailable                503  try again later, or on another process
    │       ├── DatabaseUnavailable    503
    │       │   ├── StatementTooSlow   503
    │       │   └── OutcomeUnknown     503
    │       ├── Overloaded             503
    │       ├── PoolExhausted          503
    │       ├── PoolShareFull          503
    │       ├── RunStillStopping       503
    │       ├── UpdateTooSlow          503
    │       ├── TooManyStreams         503
    │       ├── TooManyAnswers         503
    │       ├── TooManyAppRequests     503
    │       ├── TooManySockets         503
    │       ├── AnswersFull            503
    │       ├── BodiesFull             503
    │       ├── IssuerUnavailable      503
    │       ├── TooManyPublicRequests  503
    │       ├── GraphNotMade           503
    │       ├── EmbeddingFailed        503
    │       │   └── EmbeddingsFull     503
    │       ├── IndexChanged           503
    │       └── Draining               503
    ├── StartupRefusal                      the process does not start: code, what, where, remedy
    ├── SlotTaken                           the slot of a cron is not free: no run was made
    ├── LeaseLost                           this process no longer owns the run
    ├── RunEventsExceeded                   the run ends as error: it has sent too many events
    └── TokenBudgetExceeded                 the run ends as error: its models may use no more tokens
"""

import inspect

#: The address of the documentation. An installed headrace contains only ``docs/errors.md``.
DOCUMENTATION = "https://github.com/headrace/headrace/blob/main/docs"


def _sentence(kind: type) -> str:
    """The docstring of a class; the lines of a paragraph are joined."""
    text = inspect.cleandoc(kind.__doc__ or kind.__name__)
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


class HeadraceError(Exception):
    """headrace found an error."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or _sentence(type(self)))

    @property
    def message(self) -> str:
        return str(self.args[0])


class RequestError(HeadraceError):
    """The server could not answer this request."""

    status: int = 500
    code: str = "internal_error"
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


class CronOfAnother(Forbidden):
    """This cron acts for its owner, and only the owner may change what its runs do. You may change
    its schedule and its metadata, disable it or delete it.
    """

    code = "cron_of_another"


class SystemAssistant(Forbidden):
    """The server owns a graph's first assistant; create one of your own to change or delete it."""

    code = "system_assistant"


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


class EmbeddingRefused(InvalidRequest):
    """The embedding model refuses a text of this item or search; send less text."""

    code = "embedding_refused"


class Unauthenticated(RequestError):
    """The server does not know this caller."""

    status = 401
    code = "unauthenticated"

    def __init__(self, message: str | None = None, *, bearer: str | None = None) -> None:
        """
        :param bearer: what is wrong with the token, by RFC 6750; empty: there is none. None: the
            caller has sent no token, and a key is expected.
        """
        super().__init__(message)
        self.bearer = bearer


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


class CronNotFound(NotFound):
    """Cron not found."""

    code = "cron_not_found"


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


class StrayCheckpoints(Conflict):
    """This id has checkpoints and no thread. They may be another caller's; use another id.
    `headrace db adopt` makes a thread for them.
    """

    code = "stray_checkpoints"


class ThreadBusy(Conflict):
    """Thread is already running a task. Wait for it, or choose a different multitask strategy."""

    code = "thread_busy"


class AssistantExists(Conflict):
    """An assistant with this id already exists; send if_exists=do_nothing to use it."""

    code = "assistant_exists"


class AssistantChanged(Conflict):
    """The assistant was changed several times while the run was started; send it again."""

    code = "assistant_changed"


class TooManyCrons(Conflict):
    """This owner has as many crons as crons.max_per_owner allows; delete some."""

    code = "too_many_crons"


class CronChanged(Conflict):
    """The cron was changed several times meanwhile; send the change again."""

    code = "cron_changed"


class RunForgotten(Conflict):
    """The run of this Idempotency-Key has ended and is deleted; send a new key for a new run."""

    code = "run_forgotten"


class ResumeRefused(Conflict):
    """The resume does not answer what the thread waits for; read the thread's interrupts."""

    code = "resume_refused"


class TypeNotAllowed(Conflict):
    """The thread has a value of a type that this server may not make again."""

    code = "type_not_allowed"


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


class SlotTaken(HeadraceError):
    """The slot of a cron has its run already, or another transaction has locked the cron, or it was
    changed or deleted.
    """


class LeaseLost(HeadraceError):
    """This process has lost its lease, and another process may own the run."""


class RunEventsExceeded(HeadraceError):
    """The run has sent more events than a run may, and ends as ``error``."""


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

    def worded(self, *, where: str, what: str, remedy: str) -> "StartupRefusal":
        """This refusal in other words."""
        return type(self)(self.code, where=where, what=what, remedy=remedy)
