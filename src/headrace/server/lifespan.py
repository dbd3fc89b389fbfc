"""Builds everything a process needs, in order, and closes it in reverse after the last request.

Foundation, run engine, services, vital signs: the only places where objects are joined. Each step
may refuse to start; what was opened until then is closed again.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from headrace.auth.api_keys import ApiKeys
from headrace.containment import containing_tasks
from headrace.graphs.manifest import Manifest, find_manifest
from headrace.graphs.sources import GraphSource, sources_from, sources_from_objects
from headrace.health.checks import DatabaseQuestion
from headrace.health.service import HealthService
from headrace.observability.logging import configure_library_logging
from headrace.server.drain import Drain
from headrace.server.foundation import Entries, Foundation, open_foundation
from headrace.server.opening import refused_start
from headrace.server.rooms import rooms_of
from headrace.server.run_engine import RunEngine, start_run_engine
from headrace.server.services import Services, build_services
from headrace.server.state import State
from headrace.server.vital_signs import start_health
from headrace.settings import Settings
from headrace.threads.of_assistant import deleting_threads

Lifespan = Callable[[Any], AbstractAsyncContextManager[dict[str, State]]]


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
    """

    @asynccontextmanager
    async def run(_: Any) -> AsyncIterator[dict[str, State]]:
        chosen = settings or Settings()
        configure_library_logging()
        sources = sources_from(chosen) if graphs is None else sources_from_objects(graphs)
        manifest = find_manifest(chosen) if graphs is None else None
        async with serving(chosen, sources, manifest) as state:
            yield {"headrace": state}

    return run


@asynccontextmanager
async def serving(
    settings: Settings, sources: list[GraphSource], manifest: Manifest | None = None
) -> AsyncIterator[State]:
    """Everything open, from the pool to the run worker.

    :raises StartupRefusal: with what to change.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(containing_tasks())
        foundation = await open_foundation(settings, sources, Entries.of(manifest), stack)
        engine = await start_run_engine(foundation, stack)
        with refused_start(settings.database, foundation.pool):
            services = await build_services(foundation, engine)
        health = await start_health(foundation, engine, stack)

        def release() -> None:
            services.following.release()
            engine.thread_watcher.release()

        drain = Drain(
            settings.server, board=foundation.board, executor=engine.worker, release=release
        )
        foundation.board.set_state("serving")
        yield _state(foundation, engine, services, health, drain)
        if not drain.draining:
            # A server that knows of no drain, uvicorn by itself: its listeners are closed already.
            await drain.drain(close_listeners=lambda: None)


def _state(
    foundation: Foundation,
    engine: RunEngine,
    services: Services,
    health: HealthService,
    drain: Drain,
) -> State:
    settings, http = foundation.settings, foundation.entries.http
    return State(
        settings=settings,
        http=http,
        rooms=rooms_of(http),
        metrics=foundation.metrics,
        pool=foundation.pool,
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
        api_keys=ApiKeys(settings.accepted_api_keys),
        worker=engine.worker,
        drain=drain,
    )
