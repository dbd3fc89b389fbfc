"""What other rooms use to trace requests, runs and checkpoints.

The classes of this module record nothing: a process without traces uses them as they are.
``provider.py`` and ``recorded_traces.py`` have the classes that record.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any
from uuid import UUID

from headrace.tracing.trace_context import TraceContext, log_fields


class WriteTrace:
    """The trace of one checkpoint, from when it is queued until it is committed."""

    __slots__ = ()

    def flushed(self, number: int, operations: int) -> None:
        """Note which flush of the process has committed it, and with how many operations."""

    def end(self, failure: BaseException | None) -> None:
        """It is committed, or it has failed."""


class AttemptTrace:
    """The trace of one attempt of a run."""

    __slots__ = ()

    def observe(self, config: Any) -> None:
        """Add to the configuration of the run what its nodes, models and tools report to."""

    def entered(self) -> AbstractContextManager[None]:
        """Within the block, and tasks that start there, this attempt is the current span."""
        return _NOTHING

    def checkpoint(
        self, checkpoint_id: str, metadata: Mapping[str, Any], size_bytes: int | None
    ) -> WriteTrace:
        """A checkpoint of the run is queued now.

        :param metadata: LangGraph's, with ``step`` and ``source``.
        :param size_bytes: None if it is not known.
        """
        return NO_WRITE_TRACE

    def end(self, status: str, *, error: Mapping[str, str] | None, interrupted: bool) -> None:
        """The attempt has ended, and its end is committed.

        :param status: as in the row of the run; ``pending`` after a release, ``lost`` if another
            process has the run now.
        :param interrupted: the graph waits for an answer.
        """


class RequestTrace:
    """The trace of one HTTP request."""

    __slots__ = ("given",)

    def __init__(self, given: TraceContext | None = None) -> None:
        #: What the caller has sent.
        self.given = given

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits; None without a trace."""
        return None if self.given is None else self.given.trace_id

    @property
    def log_fields(self) -> Mapping[str, str]:
        """Its fields in log lines."""
        return log_fields(self.given)

    def for_run(self, interrupted: TraceContext | None = None) -> TraceContext | None:
        """The context for all attempts of a run that this request makes.

        :param interrupted: the context of an earlier run. The new run answers it, and goes on in
            its trace.
        """
        return self.given

    def end(self, method: str, route: str | None, status: int, scope: Mapping[str, Any]) -> None:
        """The request is answered.

        :param route: the template of its route; None if no route was found.
        :param scope: that of ASGI.
        """


class Tracer:
    """One per process, given to those who trace."""

    #: Whether spans are recorded. If not, nobody needs to look for the trace to go on with.
    on = False

    def request(self, given: TraceContext | None) -> RequestTrace:
        """A request begins now.

        :param given: what its caller has sent.
        """
        return self.outer_request(given)

    def outer_request(self, given: TraceContext | None) -> RequestTrace:
        """The trace of a request that headrace does not trace: an app of the user may do so."""
        return NO_REQUEST_TRACE if given is None else RequestTrace(given)

    def attempt(
        self,
        context: TraceContext | None,
        run_id: UUID,
        number: int,
        *,
        thread_id: str,
        graph_id: str,
        waits_since: datetime | None,
    ) -> AttemptTrace:
        """This process begins to execute a run now.

        :param context: that of the run.
        :param waits_since: since when the run has waited in the queue; None if it did not wait.
        """
        return NO_ATTEMPT_TRACE

    def lost_attempt(
        self,
        context: TraceContext | None,
        run_id: UUID,
        number: int,
        *,
        thread_id: str,
        graph_id: str,
        began_at: datetime,
        lived_seconds: float,
    ) -> None:
        """Tell of an attempt whose process cannot tell of it any more."""

    async def close(self) -> None:
        """Send what is left, within bounded time."""


_NOTHING = nullcontext()
NO_WRITE_TRACE = WriteTrace()
NO_ATTEMPT_TRACE = AttemptTrace()
NO_REQUEST_TRACE = RequestTrace()
