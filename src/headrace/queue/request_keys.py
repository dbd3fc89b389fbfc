"""Idempotency keys, in the transactions that start or queue the runs of their requests."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from psycopg import AsyncCursor

from headrace.db.arrays import Column, Text, Uuid
from headrace.db.pool import Connection
from headrace.queue.rows import RunRequest


class RequestKeys:
    """The keys of some requests. Without any key, no statement is sent."""

    def __init__(self, sql: Mapping[str, bytes], requests: Sequence[RunRequest]) -> None:
        keyed = [(request, request.key) for request in requests if request.key]
        self._sql = sql
        self._found: AsyncCursor[tuple[Any, ...]] | None = None
        self.present = bool(keyed)
        self._values: dict[str, Column] = {
            "key_tenants": Text([request.principal.tenant.encode() for request, _ in keyed]),
            "key_routes": Text([key.route.encode() for _, key in keyed]),
            "keys": Text([key.key.encode() for _, key in keyed]),
            "key_run_ids": Uuid([request.run_id for request, _ in keyed]),
        }

    @classmethod
    async def lock(
        cls, connection: Connection, requests: Sequence[RunRequest], sql: Mapping[str, bytes]
    ) -> "RequestKeys":
        """Lock the keys. Do this before threads are locked: it may wait."""
        keys = cls(sql, requests)
        if keys.present:
            keys._found = await connection.execute(sql["lock_keys"], keys._values)
        return keys

    async def confirm(self, connection: Connection) -> None:
        """In the transaction that makes the runs: after its commit, retries find them."""
        if self.present:
            await connection.execute(self._sql["confirm_keys"], self._values)

    async def spent(self) -> frozenset[UUID]:
        """Runs that were not made, because an earlier try had made them and they are gone."""
        row = await self._found.fetchone() if self._found is not None else None
        return frozenset(map(UUID, orjson.loads(row[0]))) if row else frozenset()
