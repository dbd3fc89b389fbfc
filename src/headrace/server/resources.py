"""The resources that a process opens first: metrics, the pool, saver and store, the graphs."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.auth.handlers import Handlers
from headrace.checkpoints.allowed_types import AllowedTypes
from headrace.checkpoints.answer_memory import AnswerMemory
from headrace.checkpoints.channel_memory import ChannelMemory
from headrace.checkpoints.commits import Commits
from headrace.checkpoints.run_saver import RunSaver
from headrace.checkpoints.saver import GroupCommitSaver
from headrace.checkpoints.scoped_store import RunStore
from headrace.checkpoints.serializer import build_serializer, watch_blocked_types
from headrace.checkpoints.store import Store
from headrace.checkpoints.stray_sweeper import StraySweeper
from headrace.checkpoints.upstream_saver import UpstreamSaver
from headrace.checkpoints.writer import Writer
from headrace.db.engine import Sessions, build_engine
from headrace.db.pool import SharedPool
from headrace.db.schema import SchemaState
from headrace.db.silence import Silence
from headrace.edge.body_memory import BodyMemory
from headrace.graphs.auth_object import LoadedAuth, load_auth
from headrace.graphs.embeddings import LoadedIndex, load_index
from headrace.graphs.http_entry import HttpEntry
from headrace.graphs.manifest import Manifest
from headrace.graphs.persistence_entries import (
    CheckpointerEntry,
    StoreEntry,
    StoreTTL,
    TtlEntry,
)
from headrace.graphs.registry import GraphRegistry
from headrace.graphs.sources import GraphSource
from headrace.graphs.webhooks_entry import WebhooksEntry
from headrace.lifecycle import Supervision, Tasks
from headrace.notices.notifier import Notifier, PollingNotifier, PostgresNotifier
from headrace.observability.metrics import Metrics
from headrace.observability.slots import StatusBoard
from headrace.retention_settings import RetentionSettings
from headrace.server.auth_handlers import open_handlers
from headrace.server.caller_share import open_share
from headrace.server.database import open_pool
from headrace.server.store import open_index, open_store
from headrace.server.watchdog import Watchdog
from headrace.settings import Settings, multiprocess_dir, opentelemetry_variables
from headrace.shares import Share
from headrace.threads.reader import ThreadReader
from headrace.tracing.opened_tracer import open_tracer
from headrace.tracing.tracer import Tracer

_log = structlog.stdlib.get_logger("headrace.lifespan")

#: In place of no time limit.
_LONG_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Entries:
    """What ``langgraph.json`` says besides its graphs; defaults without a manifest.

    The retention times are final: settings override the manifest.
    """

    checkpointer: CheckpointerEntry
    http: HttpEntry
    thread_ttl: TtlEntry
    store_ttl: StoreTTL
    webhooks: WebhooksEntry
    store_index: LoadedIndex | None
    auth: LoadedAuth | None = None

    @classmethod
    def of(cls, manifest: Manifest | None, retention: RetentionSettings) -> "Entries":
        """:raises StartupRefusal: HR101, HR105, HR115 for the model of ``store.index``; HR125
        to HR127 for the handlers of ``auth``."""
        checkpointer = (manifest.checkpointer if manifest else None) or CheckpointerEntry()
        store = (manifest.store if manifest else None) or StoreEntry()
        return cls(
            checkpointer=checkpointer,
            http=(manifest.http if manifest else None) or HttpEntry(),
            thread_ttl=(checkpointer.ttl or TtlEntry()).under(retention),
            store_ttl=store.ttl.under(retention),
            webhooks=(manifest.webhooks if manifest else None) or WebhooksEntry(),
            store_index=load_index(manifest),
            auth=load_auth(manifest),
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
    #: The part of places and memory that one caller may hold.
    share: Share
    answer_memory: AnswerMemory
    body_memory: BodyMemory
    registry: GraphRegistry
    handlers: Handlers


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

    handlers = open_handlers(
        entries.auth,
        seconds=settings.auth.handler_timeout_seconds,
        count=metrics.auth.count_handler_call,
    )
    pool, schema = await open_pool(settings, metrics, stack)
    Silence(
        pool,
        seconds=settings.database.silent_seconds,
        count=metrics.database.count_silent_connection,
    ).watch(tasks)
    share = await open_share(settings, pool, tasks)
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
    serde = entries.checkpointer.serde
    types = AllowedTypes(serde.allowed_msgpack_modules, more=settings.checkpointer.allowed_types)
    saver = build_saver(settings, pool, writer, metrics)
    saver.serde = build_serializer(types, json_types=serde.allowed_json_modules)
    stack.push_async_callback(saver.stop)
    index = await open_index(settings, pool, metrics, share, entries.store_index)
    store = open_store(settings, pool, metrics, tasks, entries.store_ttl, index, stack)
    registry = await GraphRegistry.open(
        sources,
        checkpointer=saver,
        store=RunStore(store),
        types=types,
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
        share=share,
        answer_memory=AnswerMemory(
            settings.answers, share=share, count=metrics.http.count_bounded_answer
        ),
        body_memory=_body_memory(settings, share, metrics),
        registry=registry,
        handlers=handlers,
    )


def _body_memory(settings: Settings, share: Share, metrics: Metrics) -> BodyMemory:
    return BodyMemory(
        total_bytes=settings.requests.bodies_bytes,
        wait_seconds=settings.requests.bodies_wait_seconds,
        share=share,
        count_refused=metrics.http.count_refused_body,
    )


def build_saver(
    settings: Settings,
    pool: SharedPool,
    writer: Writer,
    metrics: Metrics,
) -> RunSaver:
    """The saver of the engine that ``checkpointer.engine`` names."""
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
        channel_memory=ChannelMemory(
            settings.checkpointer.channel_memory_bytes,
            settings.checkpointer.channel_memory_seconds,
        ),
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
