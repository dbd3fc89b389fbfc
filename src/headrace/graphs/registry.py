"""Graphs by name, compiled with the process's saver and store.

A factory with a configuration or runtime is called for every run, and for every other use of its
graph. What it opens is closed afterwards. All other graphs are built once, when the registry opens.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)
from types import MappingProxyType
from typing import Any, cast

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph_sdk.runtime import AccessContext

from headrace.checkpoints.allowed_types import AllowedTypes
from headrace.errors import AssistantNotFound, HeadraceError, StartupRefusal
from headrace.graphs.factories import Factory, factory_of
from headrace.graphs.loader import own_checkpointer, own_store
from headrace.graphs.sources import GraphSource
from headrace.graphs.state_types import StateTypes
from headrace.observability.user_code import described, fault_place
from headrace.unavailable_errors import GraphNotMade, Unavailable

_log = structlog.stdlib.get_logger("headrace.graphs")

Graph = Pregel[Any, Any, Any, Any]

_DEFAULT_NAME = "LangGraph"


#: These accesses only read the graph. Other accesses execute it, or change a state.
_READS: frozenset[AccessContext] = frozenset({"threads.read", "assistants.read"})


async def _within(seconds: float, graph_id: str, call: Awaitable[Any]) -> Any:
    """The result of ``call``.

    :raises GraphNotMade: it failed, or took longer than ``seconds``.
    """
    try:
        async with asyncio.timeout(seconds):
            return await call
    except Unavailable:
        raise
    except Exception as error:
        raise GraphNotMade(
            f"The factory of graph '{graph_id}' failed, or took longer than {seconds:g} s (setting"
            f" requests.factory_timeout_seconds): {described(error)}"
        ) from error


class GraphRegistry:
    """Create it with :meth:`open`. It does not change afterwards."""

    def __init__(
        self,
        *,
        checkpointer: BaseCheckpointSaver[Any],
        store: BaseStore,
        types: AllowedTypes,
        look_seconds: float = 3.0,
    ) -> None:
        self._look_seconds = look_seconds
        self._types = StateTypes(types)
        self._checkpointer = checkpointer
        self._store = store
        self._sources: dict[str, GraphSource] = {}
        self._factories: dict[str, Factory | None] = {}
        self._graphs: dict[str, Graph] = {}
        self._open_graphs = AsyncExitStack()

    @classmethod
    async def open(
        cls,
        sources: list[GraphSource],
        *,
        checkpointer: BaseCheckpointSaver[Any],
        store: BaseStore,
        types: AllowedTypes | None = None,
        look_seconds: float = 3.0,
    ) -> "GraphRegistry":
        """Build what can be built before the first run.

        :param types: gets the types that the graphs' states declare.
        :param look_seconds: how long a factory may take when its graph is only read.
        :raises StartupRefusal: HR102 a graph has a checkpointer or store of its own, HR103 it is
            no graph, HR105 its factory raised, HR108 its factory has an unknown parameter, HR128
            its state declares types that the operator's list lacks.
        """
        registry = cls(
            checkpointer=checkpointer,
            store=store,
            types=types or AllowedTypes(),
            look_seconds=look_seconds,
        )
        try:
            for source in sources:
                registry._sources[source.graph_id] = source
                factory = factory_of(source.graph, source.where)
                registry._factories[source.graph_id] = factory
                if factory is None or not factory.is_per_run:
                    graph = await registry._make_once(source, factory)
                    registry._graphs[source.graph_id] = graph
        except BaseException:
            await registry.close()
            raise
        return registry

    async def close(self) -> None:
        """Exit the context managers of factories that were called at start."""
        await self._open_graphs.aclose()

    def ids(self) -> list[str]:
        """The names of the graphs, in the manifest's order."""
        return list(self._sources)

    def descriptions(self) -> dict[str, str | None]:
        """The manifest's description of each graph."""
        return {graph_id: source.description for graph_id, source in self._sources.items()}

    def get(self, graph_id: str) -> Graph:
        """The compiled graph.

        :raises AssistantNotFound: no graph has this name.
        :raises HeadraceError: the graph is built for each run.
        """
        self._known(graph_id)
        if graph_id not in self._graphs:
            raise HeadraceError(
                f"Graph '{graph_id}' is built for each run from its configuration; run it through"
                " the API."
            )
        return self._graphs[graph_id]

    def context_schema(self, graph_id: str) -> Any:
        """The graph's context schema; None if it has none, or if it is unknown before a run."""
        self._known(graph_id)
        if graph_id in self._graphs:
            return self._graphs[graph_id].context_schema
        factory = self._factories[graph_id]
        return None if factory is None else factory.context_schema

    def nodes(self, graph_id: str) -> Collection[str] | None:
        """The graph's nodes; None if it is built for each run."""
        self._known(graph_id)
        graph = self._graphs.get(graph_id)
        return None if graph is None else graph.nodes

    def for_run(
        self,
        graph_id: str,
        config: RunnableConfig,
        *,
        access: AccessContext = "threads.read",
        context: Mapping[str, Any] = MappingProxyType({}),
    ) -> AbstractAsyncContextManager[Graph]:
        """The graph for this configuration, while the context is open.

        :param access: the purpose. A factory may open less when nothing is executed.
        :param context: the context of the run that is executed.
        :raises AssistantNotFound: no graph has this name.
        :raises GraphNotMade: the access only reads, and the factory failed or took too long.
        :raises StartupRefusal: HR102 the factory's graph has a checkpointer or store of its own,
            HR103 the factory has made no graph, HR128 as :meth:`open`.
        """
        source = self._known(graph_id)
        graph = self._graphs.get(graph_id)
        return (
            self._made_for_run(source, config, access, context)
            if graph is None
            else nullcontext(graph)
        )

    @asynccontextmanager
    async def _made_for_run(
        self,
        source: GraphSource,
        config: RunnableConfig,
        access: AccessContext,
        context: Mapping[str, Any],
    ) -> AsyncIterator[Graph]:
        graph_id = source.graph_id
        factory = self._factories[graph_id]
        assert factory is not None
        async with AsyncExitStack() as stack:
            call = self._call(factory, stack, config, access, context)
            if access in _READS:
                call = _within(self._look_seconds, graph_id, call)
            made = await call
            yield self._inject(source, made)

    def _known(self, graph_id: str) -> GraphSource:
        if graph_id not in self._sources:
            raise AssistantNotFound(
                f"Graph '{graph_id}' not found; there are {', '.join(self._sources)}."
            )
        return self._sources[graph_id]

    async def _make_once(self, source: GraphSource, factory: Factory | None) -> Graph:
        made = source.graph
        if factory is not None:
            try:
                made = await self._call(factory, self._open_graphs, {}, "threads.read", {})
            except (Exception, SystemExit, KeyboardInterrupt) as error:
                _log.error("graph_import_failed", graph_id=source.graph_id, exc_info=error)
                raise _factory_refusal(source, error) from error
        return self._inject(source, made)

    async def _call(
        self,
        factory: Factory,
        stack: AsyncExitStack,
        config: RunnableConfig,
        access: AccessContext,
        context: Mapping[str, Any],
    ) -> Any:
        return await factory.enter(stack, config, access, self._checkpointer, self._store, context)

    def _inject(self, source: GraphSource, made: Any) -> Graph:
        graph = self._compiled(source, made)
        self._types.declare(source, graph)
        return graph

    def _compiled(self, source: GraphSource, made: Any) -> Graph:
        if isinstance(made, StateGraph):
            return self._compile(source, made)
        if not isinstance(made, Pregel):
            raise _no_graph(source, f"it is a {type(made).__name__}, not a graph")
        self._refuse_own_parts(source, made)
        update = {"checkpointer": self._checkpointer, "store": self._store}
        if made.name == _DEFAULT_NAME:
            update["name"] = source.graph_id
        return made.copy(update=update)

    def _refuse_own_parts(self, source: GraphSource, graph: Graph) -> None:
        """Refuse the user's own checkpointer or store. A factory may use the ones that it got."""
        checkpointer, store = graph.checkpointer, graph.store
        if checkpointer is self._checkpointer:
            checkpointer = None
        if isinstance(checkpointer, BaseCheckpointSaver):
            what = f"a checkpointer ({type(checkpointer).__name__})"
            raise own_checkpointer(source.where, is_context_manager=False, what=what)
        if checkpointer is not None and not isinstance(checkpointer, bool):
            # Some releases of LangGraph do not check it in compile().
            raise own_checkpointer(source.where, is_context_manager=True)
        if store is not None and store is not self._store:
            raise own_store(source.where, type(store).__name__)

    def _compile(self, source: GraphSource, builder: StateGraph[Any, Any, Any, Any]) -> Graph:
        try:
            compiled = builder.compile(
                checkpointer=self._checkpointer, store=self._store, name=source.graph_id
            )
        except Exception as error:
            raise _does_not_compile(source, error) from error
        return cast("Graph", compiled)


def _no_graph(source: GraphSource, what: str) -> StartupRefusal:
    return StartupRefusal(
        "HR103",
        where=source.where,
        what=what,
        remedy="Name a StateGraph, what its compile() returns, or a function that returns either.",
    )


def _does_not_compile(source: GraphSource, error: Exception) -> StartupRefusal:
    return StartupRefusal(
        "HR103",
        where=source.where,
        what=f"it does not compile ({described(error).removeprefix('ValueError: ').rstrip('.')})",
        remedy="Correct its nodes and edges: each edge joins nodes that were added, START and END.",
    )


def _factory_refusal(source: GraphSource, error: BaseException) -> StartupRefusal:
    place = fault_place(error)
    at = f" ({place})" if place else ""
    return StartupRefusal(
        "HR105",
        where=source.where,
        what=f"calling it raised {described(error).rstrip('.')}{at}",
        remedy="Correct that line; a factory that takes no config and no runtime is called once, at"
        " start. The traceback is above.",
    )
