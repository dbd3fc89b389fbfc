"""Which trace a new run belongs to: that of its request, or that of the run which it resumes."""

import structlog

from headrace.auth.principal import Principal
from headrace.runs.repository import RunRepository
from headrace.runs.schemas import RunCreate
from headrace.tracing.trace_context import TraceContext, stored_context
from headrace.tracing.tracer import RequestTrace, Tracer


class RunTraces:
    def __init__(self, repository: RunRepository, tracer: Tracer) -> None:
        self._repository = repository
        self._tracer = tracer

    async def context(
        self, principal: Principal, thread_id: str | None, body: RunCreate, trace: RequestTrace
    ) -> TraceContext | None:
        """The context under which all attempts of the run are traced.

        A run that answers an interrupt goes on in the trace of the run that was interrupted.
        """
        if not self._tracer.on or thread_id is None or not _resumes(body):
            return trace.for_run()
        interrupted = stored_context(await self._repository.interrupted_trace(principal, thread_id))
        context = trace.for_run(interrupted)
        if trace.log_fields:
            structlog.contextvars.bind_contextvars(**trace.log_fields)
        return context


def _resumes(body: RunCreate) -> bool:
    """Whether the run may go on where an earlier one waits."""
    if body.command is not None:
        return body.command.resume is not None
    return body.input is None
