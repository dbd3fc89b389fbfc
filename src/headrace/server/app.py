"""The server: the library face plus a manifest, middleware and error pages."""

from importlib.metadata import version

from fastapi import APIRouter, FastAPI

from headrace.assistants import endpoints as assistants
from headrace.chat import endpoints as chat
from headrace.edge.middleware import Middleware
from headrace.health import endpoints as health
from headrace.observability.logging import configure_logging
from headrace.runs import endpoints as runs
from headrace.server import meta
from headrace.server.error_handlers import add_error_handlers
from headrace.server.lifespan import lifespan
from headrace.settings import Settings
from headrace.store_items import endpoints as store_items
from headrace.threads import endpoints as threads
from headrace.threads import state_endpoints as states


def build_router() -> APIRouter:
    """All routes of the LangGraph API, the small door, health and metrics."""
    router = APIRouter()
    for room in (assistants, threads, states, runs, store_items, chat, health, meta):
        router.include_router(room.router)
    return router


def create_app(settings: Settings | None = None) -> FastAPI:
    """The app that ``headrace serve`` runs; opens nothing before its lifespan."""
    chosen = settings or Settings()
    configure_logging(chosen.observability)
    # A worker's health says nothing that a description or a key is needed for.
    closed = bool(chosen.accepted_api_keys) or not chosen.server.api
    app = FastAPI(
        title="headrace",
        version=version("headrace"),
        summary="LangGraph agents over HTTP",
        lifespan=lifespan(settings=chosen),
        openapi_url=None if closed else "/openapi.json",
    )
    app.include_router(build_router() if chosen.server.api else health.router)
    if closed and chosen.server.api:
        app.include_router(meta.schema_router)
    app.add_middleware(Middleware, plain_inside=True)
    add_error_handlers(app)
    return app
