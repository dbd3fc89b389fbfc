"""The graphs of a process and the pool they use, for the user's own code."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import HTTPConnection

from headrace.checkpoints.store import Store
from headrace.db.pool import SharedPool
from headrace.edge.state import state_of
from headrace.graphs.registry import GraphRegistry


@dataclass(frozen=True, slots=True)
class Runtime:
    """The graphs of a process, with the pool and the store that they use. All are open while the
    lifespan is.
    """

    #: Connections are in autocommit; give each back soon (``async with pool.connection()``).
    pool: AsyncConnectionPool[AsyncConnection[Any]]
    #: SQLAlchemy on the same pool, for sessions and models of your own.
    engine: AsyncEngine
    #: The store that nodes see.
    store: BaseStore
    _graphs: GraphRegistry

    @classmethod
    def of(cls, source: HTTPConnection | Mapping[str, Any]) -> "Runtime":
        """The runtime of a request or WebSocket, or of the state that the lifespan yielded.

        :raises headrace.edge.state.NotStarted: the app runs without headrace's lifespan.
        """
        state = state_of(source)
        return cls(
            state.get(SharedPool),
            state.get(AsyncEngine),
            state.get(Store),
            state.get(GraphRegistry),
        )

    def graph(self, graph_id: str) -> Pregel[Any, Any, Any, Any]:
        """The compiled graph, with saver and store on the shared pool.

        :raises headrace.errors.AssistantNotFound: no graph has this name.
        """
        return self._graphs.get(graph_id)
