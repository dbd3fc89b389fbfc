"""What the user's own app takes from headrace besides the lifespan."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from langgraph.pregel import Pregel
from starlette.requests import HTTPConnection

from headrace.server.app import build_router
from headrace.server.runtime import Runtime

__version__ = version("headrace")

if TYPE_CHECKING:
    #: The routes of the LangGraph API, ``/chat``, probes and metrics; for ``app.include_router``.
    router: APIRouter


def graph(connection: HTTPConnection, graph_id: str) -> Pregel[Any, Any, Any, Any]:
    """The compiled graph, with saver and store on the shared pool. Do not compile per request.

    :param connection: a request or a WebSocket.
    :raises headrace.errors.AssistantNotFound: no graph has this name.
    :raises headrace.edge.state.NotStarted: the app runs without headrace's lifespan.
    """
    return Runtime.of(connection).graph(graph_id)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        # Make a router on each access: importing this module builds nothing.
        if name == "router":
            return build_router()
        raise AttributeError(name)
