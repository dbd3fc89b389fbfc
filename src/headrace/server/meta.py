"""``/ok`` and ``/info``: what clients ask before anything else."""

from importlib.metadata import version
from typing import Any

from fastapi import Request

from headrace.edge.routing import new_router

router = new_router(tag="system", public=True)
#: Included where callers need a key; FastAPI's own page would ask for none.
schema_router = new_router(tag="system")


@router.get("/ok")
async def ok() -> dict[str, Any]:
    """This process answers."""
    return {"ok": True, "services": {}}


@router.get("/info")
async def info() -> dict[str, Any]:
    """Versions, and flags that say what this server has."""
    return {
        "version": version("headrace"),
        "langgraph_py_version": version("langgraph"),
        "flags": {"assistants": True, "crons": False, "langsmith": False},
        "host": {"kind": "self-hosted", "project_id": None, "revision_id": None},
    }


@schema_router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> dict[str, Any]:
    """The API's description."""
    described: dict[str, Any] = request.app.openapi()
    return described
