"""GET /livez /readyz /startupz /health /metrics: they never ask the database.

Only /metrics may need a key.

All are coroutines without blocking work, so they answer even if thread pool and database do not.
Only /metrics waits, for a thread of its own.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from headrace.auth.identity import Identity
from headrace.auth.principal import DEFAULT_TENANT
from headrace.edge.routing import PublicRoute
from headrace.edge.state import provided, state_of
from headrace.errors import Forbidden, NotFound
from headrace.health.service import HealthService
from headrace.observability.metrics import METRICS_MEDIA_TYPE
from headrace.settings import Settings

probes_router = APIRouter(route_class=PublicRoute, tags=["health"])
metrics_router = APIRouter(route_class=PublicRoute, tags=["health"])


Health = Annotated[HealthService, provided(HealthService)]
#: ``json`` for JSON; any other word means Prometheus text.
Format = Annotated[str, Query(max_length=100)]


@probes_router.get("/livez", summary="Tell whether the event loop of this process runs")
async def livez(health: Health) -> JSONResponse:
    """Tell whether the event loop of this process runs. Restart the pod when this fails.

    It fails, too, while the process should be replaced: a background task that the process needs
    cannot be kept up, or runs that have ended hold all places or half of the threads.
    """
    if problem := health.task_problem:
        return JSONResponse(
            {"status": "unfit", "pid": health.pid, "reasons": [problem]}, status_code=503
        )
    return JSONResponse({"status": "alive", "pid": health.pid})


@probes_router.get("/startupz", summary="Tell whether the server has started")
async def startupz(health: Health) -> JSONResponse:
    """Tell whether the server has started: no process listens before."""
    return JSONResponse({"status": "started", "pid": health.pid})


@probes_router.get(
    "/readyz",
    summary="Tell whether requests may come",
    responses={503: {"description": "Send no more requests here for now."}},
)
async def readyz(health: Health) -> JSONResponse:
    """Tell whether requests may come.

    All processes of the pod report, one of them serves, database and schema are usable.
    """
    if reasons := health.unready_reasons():
        return JSONResponse({"status": "unready", "reasons": reasons}, status_code=503)
    return JSONResponse({"status": "ready"})


@probes_router.get(
    "/health",
    summary="Report the health of every process",
    responses={
        200: {"content": {"application/json": {}}},
        503: {"description": "As /readyz, with the same details."},
    },
    response_class=Response,
)
async def health_report(health: Health) -> Response:
    """Report the health of every process with figures, for people and dashboards."""
    status, body = health.written_report()
    return Response(body, status_code=status, media_type="application/json")


@metrics_router.get(
    "/metrics",
    summary="Show the metrics of all processes of the pod",
    responses={
        200: {"content": {"text/plain": {}, "application/json": {}}},
        404: {"description": "Metrics have a port of their own (`HEADRACE_METRICS__PORT`)."},
    },
    response_class=Response,
)
async def metrics(request: Request, health: Health, format: Format = "prometheus") -> Response:
    """Show the metrics of all processes of the pod as Prometheus text.

    Some of them as JSON with `format=json`. Where callers need a key of `HEADRACE_API_KEYS`, this
    needs one too; it is also read from `Authorization: Bearer KEY`.
    """
    if health.metrics_elsewhere:
        raise NotFound("Metrics have a port of their own here (setting metrics.port).")
    await _check_reader(request)
    written = await health.metrics()
    if format == "json":
        return JSONResponse(written.report)
    return Response(written.text, media_type=METRICS_MEDIA_TYPE)


async def _check_reader(request: Request) -> None:
    """
    :raises NotFound: metrics are not served here.
    :raises RequestError: this caller may not read them.
    """
    state = state_of(request)
    settings = state.get(Settings)
    served = settings.edge.metrics
    # A process that only executes runs has no other port.
    if served == "on" or not settings.server.api:
        return
    if served == "off" or settings.auth.mode == "none":
        raise NotFound(
            "Metrics are not served here; give them a port of their own (setting metrics.port), or"
            " set HEADRACE_EDGE__METRICS=on."
        )
    principal = await state.get(Identity).principal(request.scope)
    # A user of langgraph.json's own handler may be anybody.
    if principal.tenant != DEFAULT_TENANT or principal.restricted or principal.user is not None:
        raise Forbidden(
            "Metrics tell of all tenants. Use a key of HEADRACE_API_KEYS, or one of the default"
            " tenant with the scope tenant."
        )


router = APIRouter()
for _router in (probes_router, metrics_router):
    router.routes.extend(_router.routes)
