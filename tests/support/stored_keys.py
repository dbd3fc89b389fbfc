"""API keys in the database of a test."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import psycopg

from headrace.auth.key_text import NewKey, new_key
from headrace.ids import uuid7


def store_key(
    database_url: str,
    *,
    tenant: str = "default",
    owner: str = "ada",
    scopes: Iterable[str] = ("read", "write"),
    expires_in: float | None = None,
) -> NewKey:
    """A new key that opens.

    :param expires_in: seconds from now; None: never.
    """
    key = new_key()
    expires_at = None if expires_in is None else datetime.now(UTC) + timedelta(seconds=expires_in)
    _execute(
        database_url,
        "INSERT INTO api_keys (id, prefix, sha256, tenant, owner, scopes, expires_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (uuid7(), key.prefix, key.digest, tenant, owner, list(scopes), expires_at),
    )
    return key


def revoke_key(database_url: str, key: NewKey) -> None:
    _execute(
        database_url, "UPDATE api_keys SET revoked_at = now() WHERE prefix = %s", (key.prefix,)
    )


def _execute(database_url: str, statement: str, values: tuple[object, ...]) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement, values)
