"""The library face: what an app of your own takes from headrace besides the lifespan."""

from importlib.metadata import version
from typing import Any, cast

from fastapi import Request
from langgraph.pregel import Pregel

from headrace.edge.state import state_of
from headrace.server.app import build_router
from headrace.server.state import State

__version__ = version("headrace")


def graph(request: Request, graph_id: str) -> Pregel[Any, Any, Any, Any]:
    """The compiled graph, with saver and store on the shared pool; never compile per request.

    :raises headrace.errors.AssistantNotFound: no graph has this name.
    """
    state = cast("State", state_of(request))
    return state.graphs.get(graph_id)


def __getattr__(name: str) -> Any:
    # A router is made when asked for: importing this module makes nothing.
    if name == "router":
        return build_router()
    raise AttributeError(name)
