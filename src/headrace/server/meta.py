"""``/ok`` and ``/info``: what clients ask before anything else."""

from importlib.metadata import version
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.routing import NoMatchFound

from headrace.edge.routing import new_router
from headrace.edge.state import found_state, state_of
from headrace.graphs.http_entry import HttpEntry
from headrace.health.checks import DatabaseQuestion

router = new_router(tag="system", public=True)
#: Not served if the manifest disables ``meta``.
info_router = new_router(tag="system", public=True)
#: Served if callers need a key: FastAPI's own page asks for none.
schema_router = new_router(tag="system")
#: Serves it where callers need none.
open_schema_router = new_router(tag="system", public=True)

#: Features and one endpoint of each. Endpoints are named by function, because paths may have a
#: prefix.
_FEATURES = {
    "assistants": "search_assistants",
    "threads": "search_threads",
    "runs": "wait_stateless_run",
    "store": "search_items",
    "crons": "search_crons",
    "openai": "create_completion",
    "mcp": "answer_mcp",
    "a2a": "get_agent_card",
}

#: Features that headrace never has.
_ABSENT = ("langsmith", "langsmith_tracing_replicas", "langsmith_tracing_session_on_runs")


@router.get("/ok")
async def ok(request: Request, check_db: Annotated[bool, Query()] = False) -> dict[str, Any]:
    """Tell that this process answers.

    With `check_db` the database must answer too; otherwise the answer is 503.
    """
    services: dict[str, str] = {}
    if check_db:
        await state_of(request).get(DatabaseQuestion).ask()
        services["database"] = "ok"
    return {"ok": True, "services": services}


@info_router.get("/info")
async def info(request: Request) -> dict[str, Any]:
    """Tell versions, and flags that say what this server has."""
    return {
        "version": version("headrace"),
        "langgraph_py_version": version("langgraph"),
        "flags": {
            **{feature: _serves(request.app, name) for feature, name in _FEATURES.items()},
            "threads_stream": _serves(request.app, "stream_events", thread_id="-"),
            **dict.fromkeys(_ABSENT, False),
            "strict_resume": True,
            "webhooks": _sends_webhooks(request),
        },
        "host": {
            "kind": "self-hosted",
            "project_id": None,
            "host_revision_id": None,
            "revision_id": None,
            "tenant_id": None,
        },
    }


def _sends_webhooks(request: Request) -> bool:
    state = found_state(request)
    entry = None if state is None else state.find(HttpEntry)
    disabled = entry is not None and entry.disable_webhooks
    return _serves(request.app, _FEATURES["runs"]) and not disabled


def _serves(app: FastAPI, endpoint: str, **parameters: str) -> bool:
    try:
        app.url_path_for(endpoint, **parameters)
    except NoMatchFound:
        return False
    return True


@open_schema_router.get("/openapi.json", include_in_schema=False)
@schema_router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> dict[str, Any]:
    """The API's description."""
    described: dict[str, Any] = request.app.openapi()
    root = str(request.scope.get("root_path", "")).rstrip("/")
    return {**described, "servers": [{"url": root}]} if root else described
