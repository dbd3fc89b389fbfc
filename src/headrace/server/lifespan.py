"""Builds everything a process needs, in order, and closes it in reverse after the last request.

``resources``, ``run_engine`` and ``services`` build one part each; this module joins the parts. A
step may refuse to start. Then everything that is open already is closed again.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import fields
from importlib.metadata import version
from types import TracebackType
from typing import Any

import structlog

from headrace.containment import containing_tasks
from headrace.db.conninfo import connection_string
from headrace.db.credentials import Credentials
from headrace.db.measurer import DatabaseMeasurer
from headrace.edge.access_log import AccessLog
from headrace.edge.cors import web_pages
from headrace.edge.gates import RequestGates
from headrace.edge.request_traces import RequestTraces
from headrace.edge.state import State
from headrace.graphs.manifest import Manifest, find_manifest
from headrace.graphs.sources import GraphSource, sources_from, sources_from_objects
from headrace.health.checks import DatabaseCheck, DatabaseProbe, DatabaseQuestion, SchemaProbe
from headrace.health.pulse import Pulse, PulseSources
from headrace.health.service import HealthService
from headrace.observability.logging import configure_library_logging
from headrace.server.collisions import look_for_collisions, places_of
from headrace.server.database import refused_start
from headrace.server.drain import Drain
from headrace.server.identity import open_identity
from headrace.server.own_secrets import mask_own, masked_refusals
from headrace.server.resources import Entries, Resources, open_resources
from headrace.server.run_engine import RunEngine, start_run_engine
from headrace.server.runtime import Runtime
from headrace.server.services import Services, start_services
from headrace.settings import Settings
from headrace.thread_pool import ThreadPool, use_thread_pool

_log = structlog.stdlib.get_logger("headrace.lifespan")


class Lifespan:
    """An app or a script enters it to have graphs and everything they need; see :func:`lifespan`.

    Called with an app, it executes runs and answers requests. Entered by itself (``async with``) it
    opens pool, saver, store and graphs, and executes no runs.
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
        #: Whether this is for headrace's own server, which checks address and routes elsewhere.
        self._of_server = of_server
        self._opened: AsyncExitStack | None = None

    @asynccontextmanager
    async def __call__(self, app: Any) -> AsyncIterator[dict[str, Any]]:
        with masked_refusals():
            settings, sources, manifest = self._ready()
            if manifest is not None and manifest.authenticates:
                settings = settings.asking_everybody()
            if not self._of_server:
                _look_at(app, settings)
            async with serving(settings, sources, manifest, app) as state:
                yield {"headrace": state}

    async def __aenter__(self) -> Runtime:
        """
        :raises StartupRefusal: with what to change.
        :raises RuntimeError: it is entered already; make another one.
        """
        if self._opened is not None:
            raise RuntimeError("this lifespan is entered already; call headrace.lifespan() again")
        with masked_refusals():
            settings, sources, manifest = self._ready()
            # A script is no server process: it publishes no status slot.
            alone = settings.model_copy(update={"runtime_dir": None})
            async with AsyncExitStack() as stack:
                resources = await open_resources(
                    alone, sources, Entries.of(manifest, settings.retention), stack
                )
                self._opened = stack.pop_all()
        return Runtime(resources.pool, resources.users_engine, resources.store, resources.registry)

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
        mask_own(settings)
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

    In a script or a job, where there is no app, it only opens the graphs and takes no runs::

        async with headrace.lifespan(graphs={"agent": builder}) as runtime:
            await runtime.graph("agent").ainvoke(...)
    """
    return Lifespan(graphs, settings=settings)


def _look_at(app: Any, settings: Settings) -> None:
    """:raises StartupRefusal: HR112 a route of the user is never reached."""
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
    settings: Settings,
    sources: list[GraphSource],
    manifest: Manifest | None = None,
    app: Any = None,
) -> AsyncIterator[State]:
    """Open everything, from the pool to the worker.

    :param app: the app that is served, if there is one.
    :raises StartupRefusal: with what to change.
    """
    # Again: the manifest may have set variables.
    mask_own(settings)
    async with AsyncExitStack() as stack:
        stack.enter_context(containing_tasks())
        threads = _threads(settings)
        resources = await open_resources(
            settings, sources, Entries.of(manifest, settings.retention), stack
        )
        engine = await start_run_engine(resources, stack)
        with refused_start(settings.database, resources.pool):
            services = await start_services(resources, engine)
        identity = await open_identity(resources, stack)
        places = RequestGates(
            settings,
            share=resources.share,
            count=resources.metrics.http.count_gate_refusal,
        )
        health = await _start_health(resources, engine, places, threads, stack)

        drain = Drain(
            settings.server,
            board=resources.board,
            worker=engine.worker,
            following=services.following,
            threads=engine.thread_watcher,
        )
        access = AccessLog(
            resources.metrics.http,
            lines_per_second=settings.observability.access_lines_per_second,
        )
        resources.board.set_state("serving")
        yield State(
            *_members(resources),
            *_members(engine),
            *_members(services),
            resources.entries.http,
            DatabaseQuestion(resources.pool, resources.tasks),
            health,
            drain,
            identity,
            web_pages(
                resources.entries.http.cors,
                settings,
                app,
                handled=resources.handlers.authenticates,
            ),
            places,
            access,
            RequestTraces(resources.tracer),
        )
        if not drain.draining:
            # Plain uvicorn knows no drain. It has closed its listeners already.
            await drain.drain(close_listeners=lambda: None)


async def _start_health(
    resources: Resources,
    engine: RunEngine,
    places: RequestGates,
    threads: ThreadPool | None,
    stack: AsyncExitStack,
) -> HealthService:
    """Start to publish figures and to check the database."""
    pool, metrics, settings = resources.pool, resources.metrics, resources.settings
    measurer = DatabaseMeasurer(
        pool,
        resources.board,
        Credentials(connection_string(settings.database)),
        seconds=settings.metrics.table_seconds,
    )
    measurer.start(resources.tasks)
    measured = PulseSources(
        pool=pool,
        writer=resources.writer,
        answer_memory=resources.answer_memory,
        body_memory=resources.body_memory,
        places=places,
        threads=threads,
        worker=engine.worker,
        queue_depth=engine.depth,
        measurer=measurer,
        watcher=engine.watcher,
        thread_watcher=engine.thread_watcher,
        reader_budget=engine.reader_budget,
        notifier=engine.notifier,
    )
    supervision = resources.supervision
    pulse = Pulse(resources.board, metrics, measured, supervision=supervision)
    database = DatabaseProbe(DatabaseCheck(pool), supervision=supervision)
    schema = SchemaProbe(pool, resources.schema, supervision=supervision)
    for one in (pulse, database, schema):
        await one.start()
        stack.push_async_callback(one.stop)
    return HealthService(
        version=version("headrace"),
        board=resources.board,
        metrics=metrics,
        database=database,
        schema=schema,
        supervision=supervision,
        worker=engine.worker,
    )


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


def _members(joined: Resources | RunEngine | Services) -> list[object]:
    """``joined`` itself, and the objects that it joins."""
    return [joined, *(getattr(joined, field.name) for field in fields(joined))]
