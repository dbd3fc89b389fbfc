"""The SQL of the table ``api_keys``. Each call is one transaction."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from headrace.auth.key_text import NewKey
from headrace.database_settings import DatabaseSettings
from headrace.db import schema
from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_connection
from headrace.db.pool import Connection, SharedPool
from headrace.db.statements import named_statements
from headrace.ids import uuid7

_COMMAND_SECONDS = 30.0
#: How long a request may wait for a key to be read, and for the connection alone.
_READ_SECONDS = 5.0
_CONNECTION_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What a process needs of a key.

    :ivar expires_at: seconds since 1970; None: never.
    """

    prefix: str
    digest: bytes
    tenant: str
    owner: str
    scopes: tuple[str, ...]
    expires_at: float | None
    revoked: bool


@dataclass(frozen=True, slots=True)
class ListedKey:
    """What commands show of a key."""

    key_id: UUID
    prefix: str
    name: str
    tenant: str
    owner: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class KeyRepository:
    """One per process."""

    def __init__(self, pool: SharedPool) -> None:
        self._pool = pool
        self._sql = _statements()

    async def read(self, prefixes: Collection[str]) -> list[StoredKey]:
        """The keys with these prefixes, revoked ones too.

        :raises Unavailable: the database could not be reached in time.
        """
        rows = await self._rows("read", {"prefixes": list(prefixes)})
        return [
            StoredKey(prefix, bytes(digest), tenant, owner, tuple(scopes), expires_at, revoked)
            for prefix, digest, tenant, owner, scopes, expires_at, revoked in rows
        ]

    async def gone(self, prefixes: Collection[str]) -> list[str]:
        """Which of these prefixes are of no valid key.

        :raises Unavailable: the database could not be reached in time.
        """
        return [prefix for (prefix,) in await self._rows("gone", {"prefixes": list(prefixes)})]

    async def any_valid(self) -> bool:
        """Whether any key opens.

        :raises Unavailable: the database could not be reached in time.
        """
        ((found,),) = await self._rows("any_valid", {})
        return bool(found)

    async def note_used(self, prefixes: Collection[str]) -> None:
        """:raises Unavailable: the database could not be reached in time."""
        with translated_faults():
            async with (
                asyncio.timeout(_READ_SECONDS),
                indexed_connection(self._pool, _CONNECTION_SECONDS) as connection,
            ):
                await connection.execute(self._sql["note_used"], {"prefixes": list(prefixes)})

    async def _rows(self, statement: str, values: Mapping[str, Any]) -> list[Any]:
        with translated_faults():
            async with (
                asyncio.timeout(_READ_SECONDS),
                indexed_connection(self._pool, _CONNECTION_SECONDS) as connection,
            ):
                cursor = await connection.execute(self._sql[statement], values)
                return await cursor.fetchall()


def create_key(
    settings: DatabaseSettings,
    key: NewKey,
    *,
    name: str,
    tenant: str,
    owner: str,
    scopes: Collection[str],
    expires_at: datetime | None,
) -> ListedKey:
    """Store a key. For commands: it starts an event loop.

    :raises StartupRefusal: as :func:`headrace.db.schema.ask`.
    """
    values = {
        "id": uuid7(),
        "prefix": key.prefix,
        "sha256": key.digest,
        "name": name,
        "tenant": tenant,
        "owner": owner,
        "scopes": list(scopes),
        "expires_at": expires_at,
    }
    (created,) = _asked(settings, "create", values)
    return created


def listed_keys(
    settings: DatabaseSettings, *, tenant: str | None, every: bool, limit: int
) -> list[ListedKey]:
    """The newest keys. For commands: it starts an event loop.

    :param tenant: None: of all tenants.
    :param every: revoked and expired ones too.
    :raises StartupRefusal: as :func:`headrace.db.schema.ask`.
    """
    return _asked(settings, "list", {"tenant": tenant, "all": every, "limit": limit})


def revoke_keys(settings: DatabaseSettings, prefixes: Collection[str]) -> list[ListedKey]:
    """Revoke keys; returns those that there are. For commands: it starts an event loop.

    :raises StartupRefusal: as :func:`headrace.db.schema.ask`.
    """
    return _asked(settings, "revoke", {"prefixes": list(prefixes)})


def _asked(
    settings: DatabaseSettings, statement: str, values: Mapping[str, Any]
) -> list[ListedKey]:
    async def ask(connection: Connection) -> list[ListedKey]:
        cursor = await connection.execute(_statements()[statement], values)
        return [_listed(*row) for row in await cursor.fetchall()]

    return schema.ask(settings, ask, timeout_seconds=_COMMAND_SECONDS)


def _listed(
    key_id: UUID, prefix: str, name: str, tenant: str, owner: str, scopes: list[str], *times: Any
) -> ListedKey:
    return ListedKey(key_id, prefix, name, tenant, owner, tuple(scopes), *times)


def _statements() -> Mapping[str, bytes]:
    return named_statements("headrace.auth", "keys.sql")
