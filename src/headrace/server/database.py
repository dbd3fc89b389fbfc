"""The way to the database: waits for it, opens the pool, and refuses to start without it."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import structlog

from headrace.database_settings import DatabaseSettings
from headrace.db.conninfo import connection_string, describe
from headrace.db.faults import DatabaseAway, driver_reason, translated_faults
from headrace.db.logins import Login, login_of
from headrace.db.pool import CONNECTIONS_BESIDE_POOL, SharedPool
from headrace.db.pool_builder import build_pool
from headrace.db.probe import ServerFacts, probe, unreachable
from headrace.db.schema import SchemaState, ensure_compatible
from headrace.errors import StartupRefusal
from headrace.observability.metrics import Metrics
from headrace.settings import Settings
from headrace.unavailable_errors import Unavailable

_log = structlog.stdlib.get_logger("headrace.lifespan")

#: The last attempt to reach the database has at least this many seconds.
_LEAST_SECONDS = 1.0


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
        encrypted=facts.encrypted,
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
