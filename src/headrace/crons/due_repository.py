"""Due crons in the database, of all tenants: for the process that makes their runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from headrace.auth.principal import Principal
from headrace.auth.run_callers import restored
from headrace.db.faults import translated_faults
from headrace.db.planner import fixed_rows, indexed_rows
from headrace.db.pool import SharedPool
from headrace.db.statements import named_statements
from headrace.queue.rows import CronSlot


@dataclass(frozen=True, slots=True)
class DueCron:
    """A cron that this process has taken.

    :ivar slot: the time for which it is due.
    :ivar now: when it was taken, by the clock of the database.
    """

    cron_id: UUID
    tenant: str
    owner: str
    caller: str
    auth: dict[str, Any] | None
    assistant_id: UUID
    thread_id: str | None
    schedule: str
    timezone: str | None
    end_time: datetime | None
    on_run_completed: str | None
    payload: dict[str, Any]
    headers: dict[str, str]
    slot: datetime
    now: datetime

    @property
    def principal(self) -> Principal:
        """Whose run it makes."""
        return restored(self.tenant, self.owner, self.caller, self.auth)

    @property
    def late_seconds(self) -> float:
        return max(0.0, (self.now - self.slot).total_seconds())


class DueCronRepository:
    def __init__(self, pool: SharedPool) -> None:
        self._pool = pool
        self._sql = named_statements("headrace.crons", "due.sql")

    async def take(self, *, limit: int, seconds: float) -> list[DueCron]:
        """Take due crons, those that are late longest first.

        :param seconds: after this time, others may take those that still have no run.
        """
        rows = await self._fixed("take_due_crons", {"limit": limit, "seconds": seconds})
        return sorted((DueCron(**row) for row in rows), key=lambda due: due.slot)

    async def seconds_to_next(self) -> float | None:
        """When the next cron is to be looked at; negative if it is due. None: there is none."""
        rows = await self._fixed("seconds_to_next", {})
        seconds: float | None = rows[0]["seconds"] if rows else None
        return seconds

    async def wake(self, slots: Mapping[UUID, datetime]) -> dict[UUID, bool]:
        """Let crons be looked at now, unless another transaction has locked them.

        :param slots: the slot of each cron.
        :returns: the crons whose slots still have no runs, and whether each was woken.
        """
        values = {"cron_ids": list(slots), "slots": list(slots.values())}
        with translated_faults():
            return dict(await indexed_rows(self._pool, self._sql["wake_free"], values))

    async def skip(self, slot: CronSlot) -> bool:
        """Move a cron to its next slot without a run. False if it has moved or changed already."""
        values = {"cron_id": slot.cron_id, "at": slot.at, "next_at": slot.next_at}
        return await self._change("skip_slot", values)

    async def disable(self, slot: CronSlot, reason: str) -> bool:
        """Let a cron make no more runs. False if it has moved or changed already.

        :param reason: a sentence, for those who read the cron.
        """
        values = {"cron_id": slot.cron_id, "at": slot.at, "reason": reason}
        return await self._change("disable", values)

    async def _change(self, statement: str, values: dict[str, Any]) -> bool:
        with translated_faults():
            return bool(await indexed_rows(self._pool, self._sql[statement], values))

    async def _fixed(self, statement: str, values: dict[str, Any]) -> Sequence[Any]:
        with translated_faults():
            async with self._pool.connection() as connection:
                return await fixed_rows(connection, self._sql[statement], values)
