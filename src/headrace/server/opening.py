"""What the lifespan opens first, as the settings say: the pool, the saver, the notifier."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import structlog

from headrace.checkpoints.saver import GroupCommitSaver, UpstreamSaver
from headrace.checkpoints.serializer import build_serializer
from headrace.checkpoints.writer import Writer
from headrace.db.conninfo import connection_string, describe
from headrace.db.faults import DatabaseAway, driver_reason, translated_faults
from headrace.db.pool import (
    CONNECTIONS_BESIDE_POOL,
    ServerFacts,
    SharedPool,
    build_pool,
    probe,
    unreachable,
)
from headrace.db.schema import SchemaState, ensure_compatible
from headrace.errors import StartupRefusal, Unavailable
from headrace.graphs.persistence_entries import SerdeEntry
from headrace.lifecycle import Supervision
from headrace.notices.notifier import Notifier, PollingNotifier, PostgresNotifier
from headrace.observability.metrics import Metrics
from headrace.setting_groups import DatabaseSettings
from headrace.settings import Settings

_log = structlog.stdlib.get_logger("headrace.lifespan")


#: The last attempt to reach the database has so long.
_LEAST_SECONDS = 1.0


async def open_pool(
    settings: Settings, metrics: Metrics, stack: AsyncExitStack
) -> tuple[SharedPool, SchemaState]:
    """:raises StartupRefusal: HR301 the database, HR311, HR312 the schema."""
    database = settings.database
    facts = await _probe_patiently(database)
    pool = build_pool(database, facts, on_checkout=metrics.observe_checkout)
    stack.push_async_callback(pool.close)
    with refused_start(database, pool):
        await pool.open(wait=True, timeout=database.open_timeout_seconds)
        schema = await ensure_compatible(pool)
    _log.info(
        "pool_opened",
        database=describe(connection_string(database)),
        url_from=database.url_source,
        postgres=facts.version,
        pooler=facts.behind_pooler,
        size=pool.max_size,
        schema=schema.current,
    )
    _warn_about_budget(settings, facts)
    return pool, schema


@contextmanager
def refused_start(database: DatabaseSettings, pool: SharedPool) -> Iterator[None]:
    """Where a start needs the database: trouble with it is a sentence, not a traceback.

    :raises StartupRefusal: HR301.
    """
    try:
        with translated_faults():
            yield
    except Unavailable as problem:
        cause = problem.__cause__ or problem
        word = pool.fault or driver_reason(cause)
        raise unreachable(connection_string(database), DatabaseAway(word)) from cause


async def _probe_patiently(database: DatabaseSettings) -> ServerFacts:
    """A database that is just restarting is waited for, within ``open_timeout_seconds``."""
    conninfo = connection_string(database)
    deadline = asyncio.get_running_loop().time() + database.open_timeout_seconds
    while True:
        left = deadline - asyncio.get_running_loop().time()
        try:
            return await probe(conninfo, timeout_seconds=max(left, _LEAST_SECONDS))
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
) -> UpstreamSaver:
    """The saver of the engine that ``checkpointer.engine`` names.

    :param serde: what the manifest says of the types in checkpoints.
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
) -> UpstreamSaver:
    timeout_seconds = settings.database.run_acquire_timeout_seconds
    if settings.checkpointer.engine == "upstream":
        return UpstreamSaver(
            pool,
            writer,
            observe=metrics.observe_checkpoint,
            acquire_timeout_seconds=timeout_seconds,
            max_error_bytes=settings.worker.max_error_bytes,
            max_checkpoint_bytes=settings.checkpointer.max_checkpoint_bytes,
        )
    return GroupCommitSaver(
        pool,
        writer,
        observe=metrics.observe_checkpoint,
        acquire_timeout_seconds=timeout_seconds,
        max_error_bytes=settings.worker.max_error_bytes,
        max_checkpoint_bytes=settings.checkpointer.max_checkpoint_bytes,
        read_batch=settings.checkpointer.read_batch,
        read_timeout_seconds=settings.checkpointer.flush_timeout_seconds,
    )


def build_notifier(
    settings: Settings, pool: SharedPool, metrics: Metrics, supervision: Supervision
) -> Notifier:
    """One that listens where the connection is direct: a pooler passes no notices on."""
    if settings.events.notices == "off" or pool.behind_pooler:
        return PollingNotifier()
    return PostgresNotifier(
        connection_string(settings.database),
        pool,
        supervision=supervision,
        count=metrics.count_notice,
    )
