"""The server: the library face plus a manifest, middleware and error pages."""

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from headrace.assistants import endpoints as assistants
from headrace.chat import endpoints as chat
from headrace.edge.cors import cors_policy
from headrace.edge.middleware import Middleware
from headrace.edge.prefix import MountPrefix
from headrace.graphs.http_entry import HttpEntry
from headrace.graphs.manifest import find_manifest
from headrace.health import endpoints as health
from headrace.observability.logging import configure_logging
from headrace.runs import endpoints as runs
from headrace.server import meta
from headrace.server.error_handlers import add_error_handlers
from headrace.server.lifespan import lifespan
from headrace.server.rooms import ALL_ROOMS, rooms_of
from headrace.settings import Settings
from headrace.store_items import endpoints as store_items
from headrace.threads import endpoints as threads
from headrace.threads import state_endpoints as states

_ROUTERS = {
    "assistants": (assistants.router,),
    "threads": (threads.router, states.router),
    "runs": (runs.router,),
    "store": (store_items.router,),
    "chat": (chat.router,),
    "meta": (health.metrics_router, meta.info_router),
}


def build_router(rooms: frozenset[str] = ALL_ROOMS) -> APIRouter:
    """The routes of the LangGraph API that ``rooms`` have, the small door, probes, metrics."""
    router = APIRouter()
    for name, routers in _ROUTERS.items():
        if name in rooms:
            for one in routers:
                router.include_router(one)
    for always in (health.probes_router, meta.router):
        router.include_router(always)
    return router


def create_app(settings: Settings | None = None) -> ASGIApp:
    """What ``headrace serve`` runs; opens nothing before its lifespan.

    :raises StartupRefusal: the manifest cannot be read, or asks for what headrace cannot do.
    """
    chosen = settings or Settings()
    configure_logging(chosen.observability)
    if not chosen.server.api:
        return Middleware(_build_api(chosen, HttpEntry()), plain_inside=True)
    manifest = find_manifest(chosen)
    http = (manifest.http if manifest is not None else None) or HttpEntry()
    return _dressed(_build_api(chosen, http), chosen, http)


def _build_api(settings: Settings, http: HttpEntry) -> FastAPI:
    rooms = rooms_of(http)
    described = settings.server.api and "meta" in rooms
    # A worker's health says nothing that a description or a key is needed for.
    closed = bool(settings.accepted_api_keys) or not described
    app = FastAPI(
        title="headrace",
        version=version("headrace"),
        summary="LangGraph agents over HTTP",
        lifespan=lifespan(settings=settings),
        openapi_url=None if closed else "/openapi.json",
    )
    app.include_router(build_router(rooms) if settings.server.api else health.router)
    if closed and described:
        app.include_router(meta.schema_router)
    add_error_handlers(app)
    return app


def _dressed(app: ASGIApp, settings: Settings, http: HttpEntry) -> ASGIApp:
    """Around the whole app, so that its error pages are dressed as well."""
    if http.mount_prefix is not None:
        app = MountPrefix(app, http.mount_prefix)
    policy: dict[str, Any] = cors_policy(http.cors, keys_needed=bool(settings.accepted_api_keys))
    app = CORSMiddleware(app, **policy)
    return Middleware(app, plain_inside=True, logged_headers=http.logging_headers)
