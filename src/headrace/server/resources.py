"""The resources that a process opens first: metrics, the pool, saver and store, the graphs."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.checkpoints.answer_memory import AnswerMemory
from headrace.checkpoints.commits import Commits
from headrace.checkpoints.run_saver import RunSaver
from headrace.checkpoints.saver import GroupCommitSaver
from headrace.checkpoints.serializer import build_serializer, watch_blocked_types
from headrace.checkpoints.store import Store
from headrace.checkpoints.store_sweeper import StoreSweeper
from headrace.checkpoints.stray_sweeper import StraySweeper
from headrace.checkpoints.upstream_saver import UpstreamSaver
from headrace.checkpoints.writer import Writer
from headrace.database_settings import DatabaseSettings
from headrace.db.conninfo import connection_string, describe
from headrace.db.engine import Sessions, build_engine
from headrace.db.faults import DatabaseAway, driver_reason, translated_faults
from headrace.db.logins import Login, login_of
from headrace.db.pool import CONNECTIONS_BESIDE_POOL, SharedPool
from headrace.db.pool_builder import build_pool
from headrace.db.probe import ServerFacts, probe, unreachable
from headrace.db.schema import SchemaState, ensure_compatible
from headrace.edge.body_memory import BodyMemory
from headrace.errors import StartupRefusal, Unavailable
from headrace.graphs.http_entry import HttpEntry
from headrace.graphs.manifest import Manifest
from headrace.graphs.persistence_entries import (
    CheckpointerEntry,
    SerdeEntry,
    StoreEntry,
    StoreTTL,
    TtlEntry,
)
from headrace.graphs.registry import GraphRegistry
from headrace.graphs.sources import GraphSource
from headrace.lifecycle import Supervision, Tasks
from headrace.notices.notifier import Notifier, PollingNotifier, PostgresNotifier
from headrace.observability.metrics import Metrics
from headrace.observability.slots import StatusBoard
from headrace.retention_settings import RetentionSettings
from headrace.server.watchdog import Watchdog
from headrace.settings import Settings, multiprocess_dir, opentelemetry_variables
from headrace.threads.reader import ThreadReader
from headrace.tracing.opened_tracer import open_tracer
from headrace.tracing.tracer import Tracer

_log = structlog.stdlib.get_logger("headrace.lifespan")

#: In place of no time limit.
_LONG_SECONDS = 86_400.0

#: The last attempt to reach the database has at least this many seconds.
_LEAST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Entries:
    """What ``langgraph.json`` says besides its graphs; defaults without a manifest.

    The retention times are final: settings override the manifest.
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
class Resources:
    """Open from the start of the lifespan to its end; closed in reverse order."""

    settings: Settings
    entries: Entries
    board: StatusBoard
    metrics: Metrics
    tracer: Tracer
    supervision: Supervision
    tasks: Tasks
    pool: SharedPool
    #: The schema's state when the pool opened.
    schema: SchemaState
    users_engine: AsyncEngine
    sessions: Sessions
    writer: Writer
    thread_reader: ThreadReader
    saver: RunSaver
    store: Store
    answer_memory: AnswerMemory
    body_memory: BodyMemory
    registry: GraphRegistry


async def open_resources(
    settings: Settings, sources: list[GraphSource], entries: Entries, stack: AsyncExitStack
) -> Resources:
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
    # Closed after all that traces.
    tracer = open_tracer(
        opentelemetry_variables(),
        count=metrics.traces.count_spans,
        close_seconds=settings.server.shutdown_margin_seconds / 4,
    )
    stack.push_async_callback(tracer.close)
    supervision = Supervision(metrics.process.record_fault)
    tasks = Tasks(supervision)
    stack.push_async_callback(tasks.stop)
    watchdog = Watchdog(
        metrics, stall_seconds=settings.server.stall_log_seconds, supervision=supervision
    )
    await watchdog.start()
    stack.push_async_callback(watchdog.stop)

    pool, schema = await open_pool(settings, metrics, stack)
    engine = build_engine(pool, pool.schema)
    users_engine = build_engine(pool, indexed=False)
    for one in (engine, users_engine):
        stack.push_async_callback(one.dispose)
    writer = Writer(
        pool,
        settings.checkpointer,
        acquire_timeout_seconds=settings.database.run_acquire_timeout_seconds,
        on_flush=metrics.checkpoints.observe_flush,
    )
    stack.push_async_callback(writer.stop)
    thread_reader = ThreadReader(
        pool,
        acquire_timeout_seconds=settings.database.acquire_timeout_seconds,
        timeout_seconds=settings.database.transaction_timeout_seconds or _LONG_SECONDS,
    )
    stack.push_async_callback(thread_reader.stop)
    strays = StraySweeper(pool, writer.strays)
    strays.start(tasks)
    stack.callback(watch_blocked_types(metrics.checkpoints.count_blocked_type))
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
    return Resources(
        settings=settings,
        entries=entries,
        board=board,
        metrics=metrics,
        tracer=tracer,
        supervision=supervision,
        tasks=tasks,
        pool=pool,
        schema=schema,
        users_engine=users_engine,
        sessions=Sessions(engine, timeout_seconds=settings.database.transaction_timeout_seconds),
        writer=writer,
        thread_reader=thread_reader,
        saver=saver,
        store=store,
        answer_memory=AnswerMemory(
            settings.answers, share=settings.caller_share, count=metrics.http.count_bounded_answer
        ),
        body_memory=_body_memory(settings, metrics),
        registry=registry,
    )


def _body_memory(settings: Settings, metrics: Metrics) -> BodyMemory:
    return BodyMemory(
        total_bytes=settings.requests.bodies_bytes,
        wait_seconds=settings.requests.bodies_wait_seconds,
        share=settings.caller_share,
        count_refused=metrics.http.count_refused_body,
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
        observe=metrics.checkpoints.observe_store,
        ttl=ttl.as_config(),
        acquire_timeout_seconds=settings.database.run_acquire_timeout_seconds,
        operation_timeout_seconds=settings.store.operation_timeout_seconds,
        retry_seconds=settings.store.retry_seconds,
    )
    stack.push_async_callback(store.close)
    sweeper = StoreSweeper(
        pool,
        interval_seconds=ttl.sweep_interval_minutes * 60,
        count=metrics.retention.count_expired_items,
    )
    sweeper.start(tasks)
    return store


async def open_pool(
    settings: Settings, metrics: Metrics, stack: AsyncExitStack
) -> tuple[SharedPool, SchemaState]:
    """:raises StartupRefusal: HR303, HR304 the URL, HR301 the database, HR311, HR312 the schema."""
    database = settings.database
    login = login_of(database)
    facts = await _probe_patiently(login, database)
    pool = build_pool(
        database,
        behind_pooler=facts.behind_pooler,
        on_checkout=metrics.database.observe_checkout,
        login=login,
    )
    stack.push_async_callback(pool.close)
    with refused_start(database, pool):
        await pool.open(wait=True, timeout=database.open_timeout_seconds)
        schema = await ensure_compatible(pool)
    _log.info(
        "pool_opened",
        database=describe(login.conninfo),
        url_from=database.url_source,
        password_from=login.passwords.kind if login.passwords else "url",
        postgres=facts.version,
        pooler=facts.behind_pooler,
        size=pool.max_size,
        schema=schema.current,
    )
    _warn_about_budget(settings, facts)
    return pool, schema


@contextmanager
def refused_start(database: DatabaseSettings, pool: SharedPool) -> Iterator[None]:
    """Inside the block, trouble with the database becomes a refusal to start: a sentence, no
    traceback.

    :raises StartupRefusal: HR301.
    """
    try:
        with translated_faults():
            yield
    except Unavailable as problem:
        cause = problem.__cause__ or problem
        word = pool.fault or driver_reason(cause)
        raise unreachable(connection_string(database), DatabaseAway(word)) from cause


async def _probe_patiently(login: Login, database: DatabaseSettings) -> ServerFacts:
    """Ask until the database answers, for about ``open_timeout_seconds``: it may be restarting.

    :raises StartupRefusal: it has not answered in time.
    """
    deadline = asyncio.get_running_loop().time() + database.open_timeout_seconds
    while True:
        left = deadline - asyncio.get_running_loop().time()
        try:
            return await probe(login, timeout_seconds=max(left, _LEAST_SECONDS))
        except StartupRefusal as refusal:
            if asyncio.get_running_loop().time() > deadline:
                raise
            _log.warning("database_awaited", reason=refusal.message)
            await asyncio.sleep(0.5)


def _warn_about_budget(settings: Settings, facts: ServerFacts) -> None:
    wanted = settings.processes * (settings.database.pool_max + CONNECTIONS_BESIDE_POOL)
    if not facts.behind_pooler and wanted > facts.max_connections:
        _log.warning(
            "connection_budget_exceeded",
            wanted=wanted,
            max_connections=facts.max_connections,
            remedy="lower HEADRACE_PROCESSES or HEADRACE_DATABASE__POOL_MAX",
        )


def build_saver(
    settings: Settings,
    pool: SharedPool,
    writer: Writer,
    metrics: Metrics,
    serde: SerdeEntry,
) -> RunSaver:
    """The saver of the engine that ``checkpointer.engine`` names.

    :param serde: the manifest's rules for types in checkpoints.
    """
    saver = _saver_of_engine(settings, pool, writer, metrics)
    saver.serde = build_serializer(
        json_types=serde.allowed_json_modules,
        msgpack_types=serde.allowed_msgpack_modules,
        pickle_fallback=serde.pickle_fallback,
    )
    return saver


def _saver_of_engine(
    settings: Settings, pool: SharedPool, writer: Writer, metrics: Metrics
) -> RunSaver:
    timeout_seconds = settings.database.run_acquire_timeout_seconds
    commits = Commits(metrics.checkpoints, slow_seconds=settings.checkpointer.slow_seconds)
    if settings.checkpointer.engine == "upstream":
        return UpstreamSaver(
            pool,
            writer,
            observe=metrics.checkpoints.observe_checkpoint,
            commits=commits,
            acquire_timeout_seconds=timeout_seconds,
            max_error_bytes=settings.worker.max_error_bytes,
            max_checkpoint_bytes=settings.checkpointer.max_checkpoint_bytes,
        )
    return GroupCommitSaver(
        pool,
        writer,
        observe=metrics.checkpoints.observe_checkpoint,
        commits=commits,
        acquire_timeout_seconds=timeout_seconds,
        max_error_bytes=settings.worker.max_error_bytes,
        max_checkpoint_bytes=settings.checkpointer.max_checkpoint_bytes,
        read_batch=settings.checkpointer.read_batch,
        read_timeout_seconds=settings.checkpointer.flush_timeout_seconds,
        channel_memory_bytes=settings.checkpointer.channel_memory_bytes,
    )


def build_notifier(
    settings: Settings, pool: SharedPool, metrics: Metrics, supervision: Supervision
) -> Notifier:
    """A notifier that listens for notices. If the setting is off, or behind a pooler (PgBouncer),
    which passes on no notices, one that polls.
    """
    if settings.events.notices == "off" or pool.behind_pooler:
        return PollingNotifier()
    return PostgresNotifier(
        pool,
        supervision=supervision,
        count=metrics.process.count_notice,
    )
