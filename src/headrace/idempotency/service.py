"""Idempotency: a POST that is sent twice creates one resource.

A request first reserves the id of its resource in the row of its key, then creates the resource. A
retry waits until the resource exists. If the first request has failed, the next try creates the
resource, with the reserved id. There cannot be two, because that id is the primary key.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog

from headrace.auth.principal import Principal
from headrace.db.engine import Sessions
from headrace.db.repeats import repeated
from headrace.db.tables import IdempotencyKeyRow
from headrace.errors import IdempotencyKeyReused, RequestError
from headrace.event_settings import IdempotencySettings
from headrace.idempotency.repository import IdempotencyRepository
from headrace.idempotency.schemas import RequestKey, Reservation
from headrace.ids import uuid7
from headrace.lifecycle import Tasks
from headrace.unavailable_errors import Unavailable

_log = structlog.stdlib.get_logger("headrace.idempotency")

#: Longer than it takes to start a run.
_LEASE = timedelta(seconds=15)
_PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.25, 0.5)


class IdempotencyService:
    """
    :param away_timeout_seconds: how long it waits for a database that is away, before a request
        fails that nobody could repeat at once.
    """

    def __init__(
        self,
        sessions: Sessions,
        settings: IdempotencySettings,
        *,
        away_timeout_seconds: float = 0.0,
        count: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self._count = count
        self._patiently = partial(repeated, seconds=away_timeout_seconds)
        self._tasks = Tasks()
        #: Keys whose resources this process is creating.
        self._taken: set[tuple[str, str, str]] = set()
        self._looks: dict[tuple[str, str, str], asyncio.Task[IdempotencyKeyRow | None]] = {}
        self._settings = settings
        self._repository = IdempotencyRepository(
            sessions, kept=timedelta(seconds=settings.keep_seconds), lease=_LEASE
        )

    async def reserve(self, principal: Principal, key: RequestKey) -> Reservation:
        """The id for the new resource, or the id of the existing one.

        While another try creates the resource, this call waits.

        :raises IdempotencyKeyReused: an earlier request with this key had another body.
        """
        pauses = iter(_PAUSES_SECONDS)
        place = _place(principal, key)
        while True:
            # Hundreds of retries at once would wait for each other's lock on the row, and delay the
            # request that creates the resource. If a request here has the key, they only read.
            if place not in self._taken and (mine := await self._take(principal, key)):
                return mine
            row = await self._look(principal, key)
            if row is not None:
                if row.body_sha256 != key.body_sha256:
                    self._count("refused")
                    raise IdempotencyKeyReused
                assert row.run_id is not None
                if row.thread_id is not None:
                    self._count("repeated")
                    return Reservation(row.run_id, made=True)
                if await self._repository.take_over_if_left(principal, key):
                    self._count("resumed")
                    return Reservation(row.run_id, made=False, resumed=True)
            # Otherwise the waiting requests would keep the one that they wait for from beginning.
            key.before_waiting()
            await asyncio.sleep(next(pauses, _PAUSES_SECONDS[-1]))

    async def _take(self, principal: Principal, key: RequestKey) -> Reservation | None:
        """Take the key, if no other request has it. It stays taken until the request has ended."""
        place, resource_id, taken = _place(principal, key), uuid7(), False
        self._taken.add(place)
        try:
            taken = await self._patiently(lambda: self._take_as(principal, key, resource_id))
        finally:
            if not taken:
                self._taken.discard(place)
        if not taken:
            return None
        self._count("made")
        return Reservation(resource_id, made=False)

    async def _take_as(self, principal: Principal, key: RequestKey, resource_id: UUID) -> bool:
        """Whether this request has the key. May be repeated: an earlier try may have taken it, and
        its answer was lost.
        """
        if await self._repository.take_if_absent(principal, key, resource_id):
            return True
        row = await self._repository.get(principal, key)
        return row is not None and row.run_id == resource_id

    async def _look(self, principal: Principal, key: RequestKey) -> IdempotencyKeyRow | None:
        """The row of the key. Concurrent calls share one read."""
        place = _place(principal, key)
        looking = self._looks.get(place)
        if looking is None:
            looking = self._looks[place] = self._tasks.start(
                self._repository.get(principal, key), name="idempotency-look"
            )
            looking.add_done_callback(lambda _: self._looks.pop(place, None))
        return await asyncio.shield(looking)

    @asynccontextmanager
    async def making(self, principal: Principal, key: RequestKey) -> AsyncIterator[None]:
        """Create the reserved resource in this context.

        A refusal (a status below 500) deletes the key. After another RequestError, the next try
        may create the resource at once; after any other exception, when the lease is over.
        """
        try:
            yield
        except RequestError as error:
            try:
                if error.status < 500:
                    await self._repository.forget(principal, key)
                else:
                    await self._repository.leave(principal, key)
            except Unavailable as fault:
                # The next try must wait until the lease is over.
                _log.warning("idempotency_key_left", cause=fault.code)
            raise
        finally:
            self._taken.discard(_place(principal, key))

    async def confirm(self, principal: Principal, key: RequestKey, thread_id: str) -> None:
        """Note that the resource exists: from now on retries find it."""
        await self._patiently(lambda: self._repository.confirm(principal, key, thread_id))
        self._taken.discard(_place(principal, key))

    async def sweep(self) -> None:
        """Delete all keys that no longer hold."""
        limit = self._settings.sweep_batch
        while await self._repository.delete_old(limit=limit) == limit:
            pass

    def start(self, tasks: Tasks) -> None:
        """Delete keys that no longer hold, now and then."""
        tasks.repeat(
            self.sweep,
            every_seconds=self._settings.sweep_seconds,
            name="idempotency-sweeper",
            log=_log,
            skipped_event="idempotency_sweep_skipped",
        )


def _place(principal: Principal, key: RequestKey) -> tuple[str, str, str]:
    return (principal.tenant, key.route_of(principal), key.key)
