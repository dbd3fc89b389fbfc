"""The slots of crons whose runs are queued: one transaction makes a run and moves its cron on."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg import AsyncCursor

from headrace.db.arrays import Column, Text, Uuid
from headrace.db.pool import Connection
from headrace.queue.rows import CronSlot, RunRequest


class Slots:
    """The slots of some requests. Without any slot, no statement is sent."""

    def __init__(self, sql: Mapping[str, bytes], requests: Sequence[RunRequest]) -> None:
        slotted = [(request.run_id, request.slot) for request in requests if request.slot]
        self._sql = sql
        self._found: AsyncCursor[tuple[Any, ...]] | None = None
        self.present = bool(slotted)
        self._values = _columns(slotted)

    @classmethod
    async def lock(
        cls, connection: Connection, requests: Sequence[RunRequest], sql: Mapping[str, bytes]
    ) -> "Slots":
        """Lock the crons, unless another transaction has. Do this after the keys are locked."""
        slots = cls(sql, requests)
        if slots.present:
            slots._found = await connection.execute(sql["lock_slots"], slots._values)
        return slots

    async def move(self, connection: Connection) -> None:
        """Move the crons on whose runs this transaction has made."""
        if self.present:
            await connection.execute(self._sql["move_slots"], self._values)

    async def taken(self) -> frozenset[UUID]:
        """The runs that were not made now: their slots were not free."""
        row = await self._found.fetchone() if self._found is not None else None
        return frozenset(map(UUID, orjson.loads(row[0]))) if row else frozenset()


def _columns(slotted: Sequence[tuple[UUID, CronSlot]]) -> dict[str, Column]:
    return {
        "slot_cron_ids": Uuid([slot.cron_id for _, slot in slotted]),
        "slot_times": Text([_time(slot.at) for _, slot in slotted]),
        "slot_run_ids": Uuid([run_id for run_id, _ in slotted]),
        "slot_next_times": Text([_time(slot.next_at) for _, slot in slotted]),
    }


def _time(value: datetime | None) -> bytes | None:
    return None if value is None else value.isoformat().encode()
