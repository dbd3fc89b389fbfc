"""Why a run failed, in one word, for its row, metrics and log."""

from headrace.errors import (
    GraphNotFound,
    HeadraceError,
    RequestError,
    RunEventsExceeded,
    TokenBudgetExceeded,
)
from headrace.queue.rows import Cause


def cause_of(
    error: BaseException, *, ours: BaseException | None = None, loaded: bool = True
) -> Cause:
    """The cause of a failed run.

    Errors of headrace that blame the request or the state (4xx) have the cause ``graph``, as all
    exceptions of user code have. The others are faults of headrace or of its database.

    :param ours: the error of a failed write of the run; the graph may have raised it again.
    :param loaded: the graph was there; otherwise its factory failed, or this process lacks it.
    """
    if isinstance(error, TokenBudgetExceeded):
        return "budget"
    if isinstance(error, RunEventsExceeded):
        return "graph"
    if isinstance(error, RequestError) and not isinstance(error, GraphNotFound):
        return "platform" if error.status >= 500 else "graph"
    if not loaded or error is ours or isinstance(error, HeadraceError):
        return "platform"
    return "graph"
