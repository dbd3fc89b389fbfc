"""Why a run failed, in one word, for metrics and log."""

from headrace.errors import GraphNotFound, HeadraceError, RequestError
from headrace.queue.ends import Cause

#: By the name of the exception's class, or of a base class of it.
_BY_NAME: dict[str, Cause] = {"TokenBudgetExceeded": "budget"}


def cause_of(
    error: BaseException, *, ours: BaseException | None = None, loaded: bool = True
) -> Cause:
    """The cause of a failed run.

    Errors of headrace that blame the request or the state (4xx) have the cause ``graph``, as all
    exceptions of user code have. The others are faults of headrace or of its database.

    :param ours: the error of a failed write of the run; the graph may have raised it again.
    :param loaded: the graph was there; otherwise its factory failed, or this process lacks it.
    """
    for kind in type(error).__mro__:
        if kind.__name__ in _BY_NAME:
            return _BY_NAME[kind.__name__]
    if isinstance(error, RequestError) and not isinstance(error, GraphNotFound):
        return "platform" if error.status >= 500 else "graph"
    if not loaded or error is ours or isinstance(error, HeadraceError):
        return "platform"
    return "graph"
