"""The trace of each HTTP request: the middleware begins and ends it, and endpoints find it."""

from fastapi import Request
from starlette.types import Scope

from headrace.edge.exchange import route_of
from headrace.edge.state import State, found_state
from headrace.tracing.trace_context import given_context
from headrace.tracing.tracer import NO_REQUEST_TRACE, RequestTrace, Tracer

#: The key in a request's state.
_TRACE = "headrace_trace"
#: FastAPI traces requests by itself, from release 0.140 on, unless this key is in their scope.
_FASTAPIS_OWN = "fastapi.telemetry"


class RequestTraces:
    """One per process, in the state that the lifespan yields."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def begin(self, scope: Scope, *, quiet: bool) -> RequestTrace:
        if self._tracer.on:
            scope.setdefault(_FASTAPIS_OWN, None)
        return NO_REQUEST_TRACE if quiet else self._tracer.request(given_context(scope["headers"]))

    def outside(self, scope: Scope) -> RequestTrace:
        """The trace of a request that has not come through the middleware."""
        return self._tracer.outer_request(given_context(scope["headers"]))


def begin_trace(scope: Scope, ours: State | None, *, quiet: bool) -> RequestTrace:
    """The trace of a request that begins now.

    :param ours: the objects of the process; None without headrace's lifespan.
    :param quiet: no trace: nobody asks about such requests later: probes, scrapes and ``/health``.
    """
    traces = _traces_of(ours)
    trace = NO_REQUEST_TRACE if traces is None else traces.begin(scope, quiet=quiet)
    scope["state"][_TRACE] = trace
    return trace


def trace_of(request: Request) -> RequestTrace:
    """The trace of the request that an endpoint answers."""
    found: RequestTrace | None = getattr(request.state, _TRACE, None)
    if found is not None:
        return found
    traces = _traces_of(found_state(request))
    return NO_REQUEST_TRACE if traces is None else traces.outside(request.scope)


def end_trace(scope: Scope, trace: RequestTrace, status: int) -> None:
    """The request is answered."""
    if trace is not NO_REQUEST_TRACE:
        trace.end(scope["method"], route_of(scope, status), status, scope)


def _traces_of(state: State | None) -> RequestTraces | None:
    """None without headrace's lifespan."""
    return state.find(RequestTraces) if state is not None else None
