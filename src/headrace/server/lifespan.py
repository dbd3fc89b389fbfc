"""Builds everything a process needs, in order, and closes it in reverse after the last request.

The only place where objects are joined. Each step may refuse to start; what was opened until then
is closed again.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from headrace.assistants.graph_service import GraphService
from headrace.assistants.repository import AssistantRepository
from headrace.assistants.service import AssistantService
from headrace.auth.api_keys import ApiKeys
from headrace.chat.service import ChatService, chat_graph
from headrace.checkpoints.expiry import StoreSweeper
from headrace.checkpoints.saver import TimedSaver
from headrace.checkpoints.serializer import watch_blocked_types
from headrace.checkpoints.store import Store
from headrace.checkpoints.writer import Writer
from headrace.db.conninfo import connection_string
from headrace.db.engine import Sessions, build_engine
from headrace.db.schema import read_state
from headrace.events.log import EventLog
from headrace.graphs.checkpointer_entry import CheckpointerEntry
from headrace.graphs.descriptions import GraphDescriptions
from headrace.graphs.http_entry import HttpEntry
from headrace.graphs.manifest import Manifest, find_manifest
from headrace.graphs.manifest_ttl import TtlEntry
from headrace.graphs.registry import GraphRegistry
from headrace.graphs.sources import GraphSource, sources_from, sources_from_objects
from headrace.graphs.store_entry import StoreEntry
from headrace.health.checks import DatabaseProbe, DatabaseQuestion, SchemaProbe, pool_check
from headrace.health.service import HealthService
from headrace.idempotency.service import IdempotencyService
from headrace.lifecycle import Tasks
from headrace.notices.notifier import Notifier
from headrace.observability.logging import configure_library_logging
from headrace.observability.metrics import Metrics
from headrace.observability.pulse import Pulse
from headrace.observability.slots import StatusBoard
from headrace.runs.following import Followable, Following
from headrace.runs.queue import Queue
from headrace.runs.repository import RunRepository
from headrace.runs.service import RunService
from headrace.runs.thread_stream import ThreadStreams
from headrace.runs.thread_watcher import ThreadWatcher
from headrace.runs.watcher import Watcher
from headrace.server.drain import Drain
from headrace.server.opening import build_notifier, build_saver, open_pool
from headrace.server.rooms import rooms_of
from headrace.server.state import State
from headrace.server.watchdog import Watchdog
from headrace.settings import Settings, multiprocess_dir
from headrace.store_items.service import StoreService
from headrace.threads.listing import ThreadListing
from headrace.threads.of_assistant import deleting_threads
from headrace.threads.removal import ThreadRemoval
from headrace.threads.repository import ThreadRepository
from headrace.threads.retention import RetentionSweeper
from headrace.threads.search_repository import ThreadSearchRepository
from headrace.threads.service import ThreadService
from headrace.threads.state import StateReader
from headrace.threads.state_repository import StateRepository
from headrace.threads.state_service import StateService
from headrace.threads.updates import StateUpdates
from headrace.worker.channels import Channels
from headrace.worker.control import Control
from headrace.worker.depth import QueueDepth
from headrace.worker.events import EventSweeper
from headrace.worker.executor import Executor
from headrace.worker.heartbeat import Heartbeat
from headrace.worker.rescuer import Rescuer
from headrace.worker.temporary import TemporaryThreads
from headrace.worker.worker import Worker

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
        board = StatusBoard(settings.runtime_dir, stale_seconds=settings.server.slot_stale_seconds)
        board.publish()
        stack.callback(board.remove)
        metrics = Metrics(board, multiprocess_dir=multiprocess_dir())
        tasks = Tasks(metrics.record_fault)
        stack.push_async_callback(tasks.stop)

        watchdog = Watchdog(metrics, stall_seconds=settings.server.stall_log_seconds)
        await watchdog.start()
        stack.push_async_callback(watchdog.stop)
        pool, schema = await open_pool(settings, metrics, stack)
        engine = build_engine(pool)
        stack.push_async_callback(engine.dispose)
        sessions = Sessions(engine, timeout_seconds=settings.database.transaction_timeout_seconds)
        writer = Writer(
            pool,
            settings.checkpointer,
            acquire_timeout_seconds=settings.database.run_acquire_timeout_seconds,
            on_flush=metrics.observe_flush,
        )
        stack.push_async_callback(writer.stop)
        kept = (manifest.checkpointer if manifest else None) or CheckpointerEntry()
        stack.callback(watch_blocked_types(metrics.count_blocked_type))
        saver = build_saver(settings, pool, writer, metrics, kept.serde)
        stack.push_async_callback(saver.stop)
        item_ttl = ((manifest.store if manifest else None) or StoreEntry()).ttl
        store = Store(pool, observe=metrics.observe_store, ttl=item_ttl.as_config())
        stack.push_async_callback(store.close)
        store_sweeper = StoreSweeper(
            pool,
            interval_seconds=item_ttl.sweep_interval_minutes * 60,
            count=metrics.count_expired_items,
        )
        tasks.start(store_sweeper.sweep_forever(), name="store-sweeper", supervised=True)
        registry = await GraphRegistry.open(sources, checkpointer=saver, store=store)
        stack.push_async_callback(registry.close)

        queue = Queue(pool, writer)
        notifier = build_notifier(settings, pool, metrics)
        log = EventLog(pool, writer, settings.events)
        channels = Channels(settings.events, log, notifier, metrics)
        control = Control(pool, settings.events, notifier.listeners, lambda: worker.executions())
        worker = await _start_worker(
            settings, registry, queue, saver, channels, notifier, control, metrics, tasks, stack
        )
        control.start(tasks)
        watcher = Watcher(pool, notifier, settings.events, tasks)
        watcher.start()
        thread_watcher = ThreadWatcher(pool, notifier, settings.events, tasks)
        thread_watcher.start()
        sweeper = EventSweeper(log, settings.events)
        tasks.start(sweeper.sweep_forever(), name="event-sweeper", supervised=True)
        await notifier.start()
        stack.push_async_callback(notifier.stop)
        assistants = AssistantService(AssistantRepository(sessions), registry.ids())
        await assistants.create_system(registry.descriptions())
        states = StateReader(registry, saver)
        keys = IdempotencyService(sessions, settings.idempotency, count=metrics.count_keyed_request)
        tasks.start(keys.sweep_forever(), name="idempotency-sweeper", supervised=True)
        updates = StateUpdates(pool, writer, saver, registry)
        threads = ThreadService(ThreadRepository(sessions), states, keys, updates.create)
        following = Following(
            watcher,
            local=worker.execution_of,
            read_values=states.values_of_run,
            ask_to_stop=partial(_ask_to_stop, worker, tasks),
        )
        runs = RunService(RunRepository(sessions), assistants, threads, worker, following, keys)
        listing = ThreadListing(
            ThreadSearchRepository(
                pool, timeout_seconds=settings.database.transaction_timeout_seconds
            ),
            threads.values,
        )
        removal = ThreadRemoval(pool, writer, saver, runs.stop_all_of)
        retention = RetentionSweeper(
            pool, removal, kept.ttl or TtlEntry(), count=metrics.count_expired_threads
        )
        tasks.start(retention.sweep_forever(), name="retention-sweeper", supervised=True)
        depth = QueueDepth(queue, board)
        tasks.start(depth.look_forever(), name="queue-depth", supervised=True)
        pulse = Pulse(
            board,
            metrics,
            pool_figures=pool.figures,
            writer_figures=writer.figures,
            queue_figures=lambda: depth.figures,
            runs_running=lambda: worker.running,
            runs_watched=lambda: watcher.watching,
            threads_watched=lambda: thread_watcher.watching,
            notices_connected=lambda: notifier.connected,
        )
        await pulse.start()
        stack.push_async_callback(pulse.stop)
        probe = DatabaseProbe(pool_check(pool), on_fault=metrics.record_fault)
        await probe.start()
        stack.push_async_callback(probe.stop)
        schema_probe = SchemaProbe(
            lambda: read_state(pool, timeout_seconds=4.0), schema, on_fault=metrics.record_fault
        )
        await schema_probe.start()
        stack.push_async_callback(schema_probe.stop)
        health = HealthService(
            version=version("headrace"),
            board=board,
            metrics=metrics,
            database=probe,
            schema_problem=lambda: schema_probe.problem,
            schema_revision=lambda: schema_probe.revision,
        )
        state_service = StateService(threads, states, StateRepository(pool), updates)
        thread_streams = ThreadStreams(
            thread_watcher,
            following,
            state_service,
            settings.events,
            heartbeat_seconds=settings.server.heartbeat_seconds,
            on_cut=metrics.count_cut_client,
        )

        def release() -> None:
            following.release()
            thread_watcher.release()

        drain = Drain(settings.server, board=board, executor=worker, release=release)
        http = (manifest.http if manifest else None) or HttpEntry()
        board.set_state("serving")
        yield State(
            settings=settings,
            http=http,
            rooms=rooms_of(http),
            metrics=metrics,
            pool=pool,
            saver=saver,
            store=store,
            store_items=StoreService(store, settings.store),
            graphs=registry,
            assistants=assistants,
            assistant_graphs=GraphService(assistants, GraphDescriptions(registry)),
            threads=threads,
            thread_listing=listing,
            thread_removal=removal,
            delete_threads_of=deleting_threads(listing, removal),
            states=state_service,
            thread_streams=thread_streams,
            runs=runs,
            chat=ChatService(runs, chat_graph(registry.ids(), settings.chat_graph)),
            health=health,
            ask_database=DatabaseQuestion(pool, tasks).ask,
            api_keys=ApiKeys(settings.accepted_api_keys),
            worker=worker,
            drain=drain,
        )
        if not drain.draining:
            # A server that knows of no drain, uvicorn by itself: its listeners are closed already.
            await drain.drain(close_listeners=lambda: None)


def _ask_to_stop(worker: Worker, tasks: Tasks, run: Followable, reason: str) -> None:
    tasks.start(
        worker.cancel(run.tenant, [run.run_id], "interrupt", reason), name=f"cancel-{run.run_id}"
    )


async def _start_worker(
    settings: Settings,
    registry: GraphRegistry,
    queue: Queue,
    saver: TimedSaver,
    channels: Channels,
    notifier: Notifier,
    control: Control,
    metrics: Metrics,
    tasks: Tasks,
    stack: AsyncExitStack,
) -> Worker:
    """The lease first, then who executes under it, then who looks after others."""
    heartbeat = Heartbeat(connection_string(settings.database), settings.worker)
    temporary = TemporaryThreads(queue, later_seconds=5 * settings.events.poll_seconds)
    executor = Executor(
        registry,
        queue,
        saver,
        channels,
        settings.worker,
        metrics,
        temporary,
        on_ended=lambda execution, end: worker.ended(execution, end),
    )
    worker = Worker(
        executor,
        queue,
        heartbeat,
        channels,
        notifier,
        settings.worker,
        metrics,
        graph_ids=registry.ids(),
        on_begun=control.begun,
    )
    notifier.listeners.add(on_queue=worker.wake, on_any=worker.wake)
    await heartbeat.start(on_lost=worker.drop_all)
    stack.push_async_callback(heartbeat.stop)
    stack.push_async_callback(worker.stop)
    worker.begin_rounds()
    tasks.start(temporary.look_for_ever(), name="temporary-threads", supervised=True)
    rescuer = Rescuer(
        queue,
        heartbeat,
        settings.worker,
        metrics,
        wake=worker.queue_changed,
        tell=notifier.run_changed,
    )
    tasks.start(rescuer.sweep_forever(), name="rescuer", supervised=True)
    return worker
