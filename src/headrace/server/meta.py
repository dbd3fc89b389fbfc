"""``/ok`` and ``/info``: what clients ask before anything else."""

from importlib.metadata import version
from typing import Any

from headrace.edge.routing import new_router

router = new_router(tag="system")


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
