"""The SQL of the table ``webhook_deliveries``. Each method is one transaction, except deletions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar
from uuid import UUID

from headrace.checkpoints.fence import RunToken
from headrace.database_settings import DatabaseSettings
from headrace.db import schema
from headrace.db.batches import delete_in_batches
from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_connection, indexed_rows
from headrace.db.pool import Connection, SharedPool
from headrace.db.statements import named_statements
from headrace.webhooks.receivers import CallBounds

T = TypeVar("T")

#: ``staged``: its run has not ended; ``due``: to be sent, now or later; ``dead``: given up.
DeliveryState = Literal["staged", "due", "sent", "dead"]

_COMMAND_SECONDS = 30.0

#: Deliveries that one statement deletes.
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Delivery:
    """A claimed delivery.

    :ivar caller: whose it is; calls are shared by callers.
    :ivar receiver: host and port, as the URL has them; the bound of calls counts by it.
    :ivar tries: how often it was claimed, this time included.
    :ivar age_seconds: for how long its run has ended.
    """

    run_id: UUID
    url: str
    caller: str
    receiver: str
    tries: int
    run: bytes
    result: bytes | None
    age_seconds: float

    @property
    def message_id(self) -> str:
        """The id of the message; a repeated call has the same."""
        return f"msg_{self.run_id}"


@dataclass(frozen=True, slots=True)
class ListedDelivery:
    run_id: UUID
    thread_id: str
    tenant: str
    receiver: str
    state: DeliveryState
    tries: int
    problem: str | None
    created_at: datetime
    due_at: datetime | None
    settled_at: datetime | None


class DeliveryRepository:
    """One per process."""

    def __init__(self, pool: SharedPool) -> None:
        self._pool = pool
        self._sql = _statements()

    async def stage(self, token: RunToken, result: bytes) -> None:
        """Note what a run has left. Nothing is sent before the run has ended.

        If this process has lost the run, nothing is noted.

        :raises Unavailable: the database could not be reached.
        """
        values = {
            "run_id": token.run_id,
            "attempt": token.attempt,
            "process_id": token.process_id,
            "result": result,
        }
        await self._change("stage", values)

    async def claim(
        self,
        *,
        limit: int,
        bounds: CallBounds,
        lease_seconds: float,
    ) -> list[Delivery]:
        """Take deliveries that are due, the oldest first.

        :param bounds: whose deliveries stay.
        :raises Unavailable: the database could not be reached.
        """
        values = {
            "limit": limit,
            "full": list(bounds.full),
            "busy": list(bounds.busy),
            "bounded": list(bounds.bounded or ()),
            "all_bounded": bounds.bounded is None,
            "known": list(bounds.known),
            "lease_seconds": lease_seconds,
        }
        with translated_faults():
            rows = await indexed_rows(self._pool, self._sql["claim"], values)
        return [
            Delivery(run_id, url, caller, receiver, tries, (run or "{}").encode(), result, age)
            for run_id, url, caller, receiver, tries, run, result, age in rows
        ]

    async def release(self, deliveries: Sequence[Delivery], *, seconds: float = 0.0) -> None:
        """Give claimed deliveries back: they were not sent, and are due in so many seconds.

        :raises Unavailable: the database could not be reached; they are due after their lease.
        """
        values = {
            "run_ids": [one.run_id for one in deliveries],
            "tries": [one.tries for one in deliveries],
            "seconds": seconds,
        }
        await self._change("release", values)

    async def settle(
        self,
        delivery: Delivery,
        state: DeliveryState,
        *,
        problem: str | None = None,
        seconds: float = 0.0,
    ) -> None:
        """Note the outcome of a call, unless the delivery was claimed again meanwhile.

        :param seconds: until the next call, if ``state`` is ``due``.
        :raises Unavailable: the database could not be reached; it is due after its lease.
        """
        values = {
            "run_id": delivery.run_id,
            "tries": delivery.tries,
            "state": state,
            "problem": problem,
            "seconds": seconds,
        }
        await self._change("settle", values)

    async def delete_expired(self, keep_seconds: float) -> int:
        """Delete all deliveries whose time is over, in batches; returns how many.

        :raises Unavailable: the database could not be reached. Finished batches stay deleted.
        """
        values = {"keep_seconds": keep_seconds}
        return await delete_in_batches(
            self._pool, self._sql["delete_expired"], values, limit=_BATCH
        )

    async def _change(self, statement: str, values: Mapping[str, Any]) -> None:
        with translated_faults():
            async with indexed_connection(self._pool) as connection:
                await connection.execute(self._sql[statement], values)


def listed_deliveries(
    settings: DatabaseSettings, states: Sequence[DeliveryState], limit: int
) -> list[ListedDelivery]:
    """The newest deliveries in these states, read over a new connection.

    For commands: it starts an event loop.

    :raises StartupRefusal: as :func:`headrace.db.schema.ask`.
    """
    values = {"states": list(states), "limit": limit}
    return _asked(settings, "listed", values, lambda row: ListedDelivery(*row))


def resend(settings: DatabaseSettings, run_ids: Sequence[UUID] | None) -> list[UUID]:
    """Make dead deliveries due again; returns their runs. For commands: it starts an event loop.

    :param run_ids: None: all dead deliveries.
    :raises StartupRefusal: as :func:`headrace.db.schema.ask`.
    """
    values = {"run_ids": None if run_ids is None else list(run_ids)}
    return _asked(settings, "resend", values, lambda row: UUID(str(row[0])))


def _asked(
    settings: DatabaseSettings,
    statement: str,
    values: Mapping[str, Any],
    form: Callable[[tuple[Any, ...]], T],
) -> list[T]:
    async def ask(connection: Connection) -> list[T]:
        cursor = await connection.execute(_statements()[statement], values)
        return [form(row) for row in await cursor.fetchall()]

    return schema.ask(settings, ask, timeout_seconds=_COMMAND_SECONDS)


def _statements() -> Mapping[str, bytes]:
    return named_statements("headrace.webhooks", "deliveries.sql")
