"""What everything else stands on: metrics and tasks, the pool, saver and store, the graphs."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.checkpoints.answer_memory import AnswerMemory
from headrace.checkpoints.saver import UpstreamSaver
from headrace.checkpoints.serializer import watch_blocked_types
from headrace.checkpoints.store import Store
from headrace.checkpoints.store_sweeper import StoreSweeper
from headrace.checkpoints.stray_sweeper import StraySweeper
from headrace.checkpoints.writer import Writer
from headrace.db.engine import Sessions, build_engine
from headrace.db.pool import SharedPool
from headrace.db.schema import SchemaState
from headrace.edge.body_memory import BodyMemory
from headrace.graphs.http_entry import HttpEntry
from headrace.graphs.manifest import Manifest
from headrace.graphs.persistence_entries import CheckpointerEntry, StoreEntry, StoreTTL, TtlEntry
from headrace.graphs.registry import GraphRegistry
from headrace.graphs.sources import GraphSource
from headrace.lifecycle import Supervision, Tasks
from headrace.observability.metrics import Metrics
from headrace.observability.slots import StatusBoard
from headrace.retention_settings import RetentionSettings
from headrace.server.opening import build_saver, open_pool
from headrace.server.watchdog import Watchdog
from headrace.settings import Settings, multiprocess_dir


@dataclass(frozen=True, slots=True)
class Entries:
    """What ``langgraph.json`` says besides its graphs; the defaults where there is none.

    Of the times that things are kept for, what holds: settings win.
    """

    checkpointer: CheckpointerEntry
    http: HttpEntry
    thread_ttl: TtlEntry
    store_ttl: StoreTTL

    @classmethod
    def of(cls, manifest: Manifest | None, retention: RetentionSettings) -> "Entries":
        checkpointer = (manifest.checkpointer if manifest else None) or CheckpointerEntry()
        store = (manifest.store if manifest else None) or StoreEntry()
        return cls(
            checkpointer=checkpointer,
            http=(manifest.http if manifest else None) or HttpEntry(),
            thread_ttl=(checkpointer.ttl or TtlEntry()).under(retention),
            store_ttl=store.ttl.under(retention),
        )


@dataclass(frozen=True, slots=True)
class Foundation:
    settings: Settings
    entries: Entries
    board: StatusBoard
    metrics: Metrics
    supervision: Supervision
    tasks: Tasks
    pool: SharedPool
    #: As it was when the pool opened.
    schema: SchemaState
    users_engine: AsyncEngine
    sessions: Sessions
    writer: Writer
    saver: UpstreamSaver
    store: Store
    answer_memory: AnswerMemory
    body_memory: BodyMemory
    registry: GraphRegistry


async def open_foundation(
    settings: Settings, sources: list[GraphSource], entries: Entries, stack: AsyncExitStack
) -> Foundation:
    """:raises StartupRefusal: with what to change."""
    board = StatusBoard(settings.runtime_dir, stale_seconds=settings.server.slot_stale_seconds)
    board.publish()
    stack.callback(board.remove)
    metrics = Metrics(
        board,
        multiprocess_dir=multiprocess_dir(),
        cache_seconds=settings.metrics.cache_seconds,
    )
    stack.callback(metrics.exposition.close)
    supervision = Supervision(metrics.record_fault)
    tasks = Tasks(supervision)
    stack.push_async_callback(tasks.stop)
    watchdog = Watchdog(
        metrics, stall_seconds=settings.server.stall_log_seconds, supervision=supervision
    )
    await watchdog.start()
    stack.push_async_callback(watchdog.stop)

    pool, schema = await open_pool(settings, metrics, stack)
    engine, users_engine = build_engine(pool, pool.schema), build_engine(pool)
    for one in (engine, users_engine):
        stack.push_async_callback(one.dispose)
    writer = Writer(
        pool,
        settings.checkpointer,
        acquire_timeout_seconds=settings.database.run_acquire_timeout_seconds,
        on_flush=metrics.observe_flush,
    )
    stack.push_async_callback(writer.stop)
    strays = StraySweeper(pool, writer.strays)
    tasks.keep(strays.sweep_forever, name="stray-sweeper", vital=False)
    stack.callback(watch_blocked_types(metrics.count_blocked_type))
    saver = build_saver(settings, pool, writer, metrics, entries.checkpointer.serde)
    stack.push_async_callback(saver.stop)
    store = _open_store(settings, pool, metrics, tasks, entries.store_ttl, stack)
    registry = await GraphRegistry.open(
        sources,
        checkpointer=saver,
        store=store,
        look_seconds=settings.requests.factory_timeout_seconds,
    )
    stack.push_async_callback(registry.close)
    return Foundation(
        settings=settings,
        entries=entries,
        board=board,
        metrics=metrics,
        supervision=supervision,
        tasks=tasks,
        pool=pool,
        schema=schema,
        users_engine=users_engine,
        sessions=Sessions(engine, timeout_seconds=settings.database.transaction_timeout_seconds),
        writer=writer,
        saver=saver,
        store=store,
        answer_memory=AnswerMemory(
            settings.answers, share=settings.caller_share, count=metrics.count_bounded_answer
        ),
        body_memory=_body_memory(settings, metrics),
        registry=registry,
    )


def _body_memory(settings: Settings, metrics: Metrics) -> BodyMemory:
    return BodyMemory(
        total_bytes=settings.requests.bodies_bytes,
        wait_seconds=settings.requests.bodies_wait_seconds,
        share=settings.caller_share,
        count_refused=metrics.count_refused_body,
    )


def _open_store(
    settings: Settings,
    pool: SharedPool,
    metrics: Metrics,
    tasks: Tasks,
    ttl: StoreTTL,
    stack: AsyncExitStack,
) -> Store:
    store = Store(
        pool,
        observe=metrics.observe_store,
        ttl=ttl.as_config(),
        acquire_timeout_seconds=settings.database.run_acquire_timeout_seconds,
        operation_timeout_seconds=settings.store.operation_timeout_seconds,
        retry_seconds=settings.store.retry_seconds,
    )
    stack.push_async_callback(store.close)
    sweeper = StoreSweeper(
        pool,
        interval_seconds=ttl.sweep_interval_minutes * 60,
        count=metrics.count_expired_items,
    )
    tasks.keep(sweeper.sweep_forever, name="store-sweeper", vital=False)
    return store
