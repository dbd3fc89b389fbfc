"""Makes the pool from the settings, and says how its connections are set up."""

from collections.abc import Callable

from psycopg.types.json import set_json_dumps, set_json_loads

from headrace.database_settings import DatabaseSettings
from headrace.db.arrays import register_columns
from headrace.db.jsonb import dump_jsonb, load_jsonb
from headrace.db.logins import Login, login_of
from headrace.db.pool import Connection, SharedPool
from headrace.db.statements import use_schema
from headrace.db.traffic import CountedCursor

#: psycopg prepares a statement after so many executions.
_PREPARE_THRESHOLD = 5

#: The pool doubles its pause between attempts to reach a lost server, up to this time. With
#: psycopg_pool's default of 300 it would notice late that the server is back.
_RECONNECT_TIMEOUT_SECONDS = 8.0


async def _configure(connection: Connection) -> None:
    register_columns(connection)
    set_json_dumps(dump_jsonb, connection)
    set_json_loads(load_jsonb, connection)


async def _reset(connection: Connection) -> None:
    # SQLAlchemy switches autocommit off while it has a connection.
    await connection.set_autocommit(True)


def build_pool(
    settings: DatabaseSettings,
    *,
    behind_pooler: bool,
    on_checkout: Callable[[float, bool], None] | None = None,
    login: Login | None = None,
) -> SharedPool:
    """The pool. It does not connect before ``open()``.

    :param login: opens the connections; default: the login of the settings.
    """

    async def configure(connection: Connection) -> None:
        await _configure(connection)
        use_schema(connection, settings.schema_name)

    prepared = settings.prepared_statements == "on" or (
        settings.prepared_statements == "auto" and not behind_pooler
    )
    return SharedPool(
        login or login_of(settings),
        min_size=settings.pool_min,
        max_size=settings.pool_max,
        max_waiting=settings.pool_max_waiting,
        timeout=settings.acquire_timeout_seconds,
        max_idle=settings.max_idle_seconds,
        max_lifetime=settings.max_lifetime_seconds,
        reconnect_timeout=_RECONNECT_TIMEOUT_SECONDS,
        configure=configure,
        reset=_reset,
        close_returns=True,
        open=False,
        name="headrace",
        kwargs={
            "autocommit": True,
            "cursor_factory": CountedCursor,
            "prepare_threshold": _PREPARE_THRESHOLD if prepared else None,
        },
        on_checkout=on_checkout,
        behind_pooler=behind_pooler,
        schema=settings.schema_name,
        away_timeout_seconds=settings.away_timeout_seconds,
    )
