"""Builds everything a process needs, in order, and closes it in reverse after the last request.

Foundation, run engine, services, vital signs: the only places where objects are joined. Each step
may refuse to start; what was opened until then is closed again.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any

import structlog

from headrace.auth.api_keys import ApiKeys
from headrace.containment import containing_tasks
from headrace.edge.gates import RequestGates
from headrace.graphs.manifest import Manifest, find_manifest
from headrace.graphs.sources import GraphSource, sources_from, sources_from_objects
from headrace.health.checks import DatabaseQuestion
from headrace.health.service import HealthService
from headrace.observability.logging import configure_library_logging
from headrace.server.collisions import look_for_collisions, places_of
from headrace.server.drain import Drain
from headrace.server.foundation import Entries, Foundation, open_foundation
from headrace.server.opening import refused_start
from headrace.server.rooms import rooms_of
from headrace.server.run_engine import RunEngine, start_run_engine
from headrace.server.runtime import Runtime
from headrace.server.services import Services, build_services
from headrace.server.state import State
from headrace.server.vital_signs import start_health
from headrace.settings import Settings
from headrace.thread_pool import ThreadPool, use_thread_pool
from headrace.threads.of_assistant import deleting_threads

_log = structlog.stdlib.get_logger("headrace.lifespan")


class Lifespan:
    """What an app or a script enters to have graphs and all they need; see :func:`lifespan`.

    Called with an app it serves: runs are executed, requests answered. Entered by itself
    (``async with``) it opens pool, saver, store and graphs, and takes no runs.
    """

    def __init__(
        self,
        graphs: Mapping[str, Any] | None = None,
        *,
        settings: Settings | None = None,
        of_server: bool = False,
    ) -> None:
        self._graphs = graphs
        self._settings = settings
        #: headrace's own server, which looks at its address itself.
        self._of_server = of_server
        self._opened: AsyncExitStack | None = None

    @asynccontextmanager
    async def __call__(self, app: Any) -> AsyncIterator[dict[str, Any]]:
        settings, sources, manifest = self._ready()
        if not self._of_server:
            _look_at(app, settings)
        async with serving(settings, sources, manifest) as state:
            yield {"headrace": state}

    async def __aenter__(self) -> Runtime:
        """
        :raises StartupRefusal: with what to change.
        :raises RuntimeError: it is entered already; make another one.
        """
        if self._opened is not None:
            raise RuntimeError("this lifespan is entered already; call headrace.lifespan() again")
        settings, sources, manifest = self._ready()
        # A script is no server process: it has no place on their board.
        alone = settings.model_copy(update={"runtime_dir": None})
        async with AsyncExitStack() as stack:
            foundation = await open_foundation(
                alone, sources, Entries.of(manifest, settings.retention), stack
            )
            self._opened = stack.pop_all()
        return Runtime(
            foundation.pool, foundation.users_engine, foundation.store, foundation.registry
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._opened is not None
        opened, self._opened = self._opened, None
        await opened.__aexit__(kind, error, traceback)

    def _ready(self) -> tuple[Settings, list[GraphSource], Manifest | None]:
        settings = self._settings or Settings()
        configure_library_logging()
        if self._graphs is None:
            return settings, sources_from(settings), find_manifest(settings)
        return settings, sources_from_objects(self._graphs), None


def lifespan(
    graphs: Mapping[str, Any] | None = None, *, settings: Settings | None = None
) -> Lifespan:
    """A lifespan for ``FastAPI(lifespan=...)`` that serves ``graphs``.

    :param graphs: graph id to builder, compiled graph or factory; default: those of
        ``langgraph.json``, else the built-in ``chat``.
    :param settings: default: from the environment, read when the app starts.

    To add a lifespan of your own, enter this one inside it and yield both states::

        @asynccontextmanager
        async def mine(app):
            async with headrace.lifespan(graphs={"agent": builder})(app) as state:
                yield {**state, "cache": await open_cache()}

    Where there is no app, in a script or a job, it opens the graphs alone and takes no runs::

        async with headrace.lifespan(graphs={"agent": builder}) as runtime:
            await runtime.graph("agent").ainvoke(...)
    """
    return Lifespan(graphs, settings=settings)


def _look_at(app: Any, settings: Settings) -> None:
    """:raises StartupRefusal: HR112 a route of the user's is never reached."""
    routes = getattr(app, "routes", None)
    if not routes:
        return
    look_for_collisions(routes)
    if settings.local_only and any(place.ours for place in places_of(routes)):
        _log.warning(
            "api_without_keys",
            answered="callers of this machine alone",
            remedy="set HEADRACE_API_KEYS, or HEADRACE_AUTH=none where something in front asks"
            " who calls",
        )


@asynccontextmanager
async def serving(
    settings: Settings, sources: list[GraphSource], manifest: Manifest | None = None
) -> AsyncIterator[State]:
    """Everything open, from the pool to the run worker.

    :raises StartupRefusal: with what to change.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(containing_tasks())
        threads = _threads(settings)
        foundation = await open_foundation(
            settings, sources, Entries.of(manifest, settings.retention), stack
        )
        engine = await start_run_engine(foundation, stack)
        with refused_start(settings.database, foundation.pool):
            services = await build_services(foundation, engine)
        keys = ApiKeys(settings.accepted_api_keys, local_only=settings.local_only)
        places = RequestGates(
            settings,
            share=settings.caller_share,
            count=foundation.metrics.count_gate_refusal,
        )
        health = await start_health(foundation, engine, places, threads, stack)

        def release() -> None:
            services.following.release()
            engine.thread_watcher.release()

        drain = Drain(
            settings.server, board=foundation.board, executor=engine.worker, release=release
        )
        foundation.board.set_state("serving")
        yield _state(foundation, engine, services, health, drain, keys, places)
        if not drain.draining:
            # A server that knows of no drain, uvicorn by itself: its listeners are closed already.
            await drain.drain(close_listeners=lambda: None)


def _threads(settings: Settings) -> ThreadPool | None:
    worker = settings.worker
    threads = use_thread_pool(worker.threads, places=worker.max_concurrent_runs)
    if threads is None:
        _log.info(
            "executor_left",
            why="the event loop has a default executor that is not its own; which threads work for"
            " which run is not known",
        )
    return threads


def _state(
    foundation: Foundation,
    engine: RunEngine,
    services: Services,
    health: HealthService,
    drain: Drain,
    keys: ApiKeys,
    places: RequestGates,
) -> State:
    settings, http = foundation.settings, foundation.entries.http
    return State(
        settings=settings,
        http=http,
        rooms=rooms_of(http),
        metrics=foundation.metrics,
        pool=foundation.pool,
        engine=foundation.users_engine,
        saver=foundation.saver,
        store=foundation.store,
        store_items=services.store_items,
        graphs=foundation.registry,
        assistants=services.assistants,
        assistant_graphs=services.assistant_graphs,
        threads=services.threads,
        thread_listing=services.thread_listing,
        thread_removal=services.thread_removal,
        delete_threads_of=deleting_threads(services.thread_listing, services.thread_removal),
        states=services.states,
        thread_streams=services.thread_streams,
        runs=services.runs,
        chat=services.chat,
        health=health,
        ask_database=DatabaseQuestion(foundation.pool, foundation.tasks).ask,
        api_keys=keys,
        places=places,
        body_memory=foundation.body_memory,
        worker=engine.worker,
        drain=drain,
    )
