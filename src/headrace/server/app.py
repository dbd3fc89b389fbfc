"""The server's app: the API of the library with a manifest, middleware and error pages."""

from dataclasses import replace
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from headrace.a2a_door import endpoints as a2a_door
from headrace.assistants import endpoints as assistants
from headrace.chat import endpoints as chat
from headrace.crons import endpoints as crons
from headrace.edge.cors import PageAccess, cors_policy
from headrace.edge.middleware import Middleware
from headrace.edge.prefix import MountPrefix
from headrace.edge.route_table import RouteTable
from headrace.graphs.custom_app import load_custom_app
from headrace.graphs.http_entry import SERVED_ROOMS, HttpEntry
from headrace.graphs.manifest import find_manifest
from headrace.health import endpoints as health
from headrace.mcp_door import endpoints as mcp_door
from headrace.observability.logging import configure_logging
from headrace.openai_door import endpoints as openai_door
from headrace.protocol import endpoints as protocol
from headrace.protocol import socket_endpoints as protocol_sockets
from headrace.runs import endpoints as runs
from headrace.runs import read_endpoints as run_reads
from headrace.runs import thread_stream_endpoints as thread_streams
from headrace.runs import timeline_endpoints as timelines
from headrace.server import meta
from headrace.server.api import ServedApi
from headrace.server.custom_app import has_cors, with_api
from headrace.server.error_handlers import add_error_handlers
from headrace.server.lifespan import Lifespan
from headrace.server.openapi import Proofs
from headrace.server.own_secrets import mask_own
from headrace.server.pages import page_routers, paths_of
from headrace.settings import Settings
from headrace.store_items import endpoints as store_items
from headrace.threads import endpoints as threads
from headrace.threads import state_endpoints as states

_ROUTERS = {
    "assistants": (assistants.router,),
    "threads": (threads.router, states.router, thread_streams.router),
    "runs": (
        crons.router,
        runs.router,
        run_reads.router,
        timelines.router,
        protocol.router,
        protocol_sockets.router,
    ),
    "store": (store_items.router,),
    "chat": (chat.router,),
    "openai": (openai_door.router,),
    "mcp": (mcp_door.router,),
    "a2a": (a2a_door.router, a2a_door.card_router),
    "meta": (health.metrics_router, meta.info_router),
}


def build_router(rooms: frozenset[str] = SERVED_ROOMS) -> APIRouter:
    """The routes of the LangGraph API in ``rooms``, with ``/chat``, probes and metrics.

    :param rooms: rooms of the API, and doors.
    """
    router = APIRouter()
    for name, routers in _ROUTERS.items():
        if name in rooms:
            for one in routers:
                router.routes.extend(one.routes)
    for always in (health.probes_router, meta.router):
        router.routes.extend(always.routes)
    return router


def create_app(settings: Settings | None = None) -> ASGIApp:
    """The app that ``headrace serve`` runs. It opens nothing before its lifespan.

    :raises StartupRefusal: the manifest cannot be read, asks for what headrace cannot do, or names
        an app that cannot be served.
    """
    chosen = settings or Settings()
    mask_own(chosen)
    configure_logging(chosen.observability)
    ours = Lifespan(settings=chosen, of_server=True)
    if not chosen.server.api:
        return Middleware(_build_health(ours), plain_inside=True)
    manifest = find_manifest(chosen)
    http = (manifest.http if manifest is not None else None) or HttpEntry()
    app: Starlette | None = load_custom_app(manifest) if manifest is not None else None
    api = _build_api(chosen, http, ours, alone=app is None)
    if manifest is not None and manifest.authenticates:
        assert manifest.auth is not None
        api.proofs = replace(api.proofs, handled=True)
        api.security = manifest.auth.openapi
        chosen = chosen.asking_everybody()
    if app is None:
        return _with_middleware(api, chosen, http, plain_inside=True)
    api.beside = app
    own_cors = has_cors(app) and http.cors is None
    joined = with_api(app, api, http, ours, _public_paths(api))
    # Middleware of the user's app may change bodies.
    return _with_middleware(joined, chosen, http, plain_inside=False, cors=not own_cors)


def _build_health(ours: Lifespan) -> FastAPI:
    """The app of a worker process. Its health pages need no description and no key."""
    app = FastAPI(title="headrace", version=version("headrace"), lifespan=ours, openapi_url=None)
    app.router.redirect_slashes = False
    app.include_router(health.router)
    add_error_handlers(app)
    return app


def _build_api(
    settings: Settings, http: HttpEntry, ours: Lifespan, *, alone: bool = True
) -> ServedApi:
    """
    :param alone: no app of the user is served beside the API. Such an app may have its own ``/``.
    """
    doors = http.open_doors(settings.server.named_doors)
    rooms = http.rooms | doors
    described = "meta" in rooms and settings.docs_served
    app = ServedApi(
        title="headrace",
        version=version("headrace"),
        summary="LangGraph agents over HTTP",
        lifespan=ours,
        # FastAPI's own route answers under any name in Host.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.doors = doors
    app.proofs = Proofs(keys=settings.credentials_needed, tokens=settings.auth.takes_tokens)
    # FastAPI's own redirect asks for no key, and goes to the host that the request names.
    app.router.redirect_slashes = False
    app.router.routes.extend(build_router(rooms).routes)
    for router in page_routers(with_docs=described, with_root=alone):
        app.router.routes.extend(router.routes)
    if described:
        schema = meta.schema_router if settings.credentials_needed else meta.open_schema_router
        app.router.routes.extend(schema.routes)
    add_error_handlers(app, public=_public_paths(app))
    app.table = RouteTable(app.router.routes)
    return app


def _public_paths(api: FastAPI) -> frozenset[str]:
    """The paths that need no key."""
    routers = (health.probes_router, health.metrics_router, meta.router, meta.info_router)
    paths = {route.path for router in routers for route in router.routes if hasattr(route, "path")}
    paths |= paths_of(page_routers(with_docs=True, with_root=True))
    # By identity: Starlette takes routes with one path and one endpoint for equal.
    served = set(map(id, api.routes))
    schema = meta.open_schema_router.routes
    paths |= {one.path for one in schema if isinstance(one, Route) and id(one) in served}
    return frozenset(paths)


def _with_middleware(
    app: ASGIApp, settings: Settings, http: HttpEntry, *, plain_inside: bool, cors: bool = True
) -> ASGIApp:
    """The whole app with its middleware, so that error pages pass through it too."""
    if http.mount_prefix is not None:
        app = MountPrefix(app, http.mount_prefix)
    if cors:
        app = PageAccess(app, **cors_policy(http.cors, settings))
    return Middleware(
        app,
        plain_inside=plain_inside,
        logged_headers=http.logging_headers,
        hsts_seconds=settings.edge.hsts_seconds,
    )
