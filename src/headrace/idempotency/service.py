"""A POST that is sent twice makes one thing.

The id of what a request makes is reserved in its key's row before it is made. Whoever has reserved
it makes it; a retry waits until it is there. Where the maker went away, the next try makes it,
under the same id: two of them cannot come to be, because that id is the primary key.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from headrace.auth.principal import Principal
from headrace.db.engine import Sessions
from headrace.errors import HeadraceError, IdempotencyKeyReused, RequestError, Unavailable
from headrace.idempotency.repository import IdempotencyRepository
from headrace.idempotency.schemas import RequestKey, Reservation
from headrace.ids import uuid7
from headrace.setting_groups import IdempotencySettings

_log = structlog.stdlib.get_logger("headrace.idempotency")

#: Longer than a start takes.
_LEASE = timedelta(seconds=15)
_PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.25)


class IdempotencyService:
    def __init__(
        self,
        sessions: Sessions,
        settings: IdempotencySettings,
        *,
        count: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self._count = count
        self._settings = settings
        self._repository = IdempotencyRepository(
            sessions, kept=timedelta(seconds=settings.keep_seconds), lease=_LEASE
        )

    async def reserve(self, principal: Principal, key: RequestKey) -> Reservation:
        """The id to make the resource under, or that of the one that was made.

        Waits while another try makes it.

        :raises IdempotencyKeyReused: the key came with another body before.
        """
        pauses = iter(_PAUSES_SECONDS)
        while True:
            resource_id = uuid7()
            if await self._repository.take_if_absent(principal, key, resource_id):
                self._count("made")
                return Reservation(resource_id, made=False)
            row = await self._repository.get(principal, key)
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
            await asyncio.sleep(next(pauses, _PAUSES_SECONDS[-1]))

    @asynccontextmanager
    async def making(self, principal: Principal, key: RequestKey) -> AsyncIterator[None]:
        """What is made inside was reserved here; a refusal is not remembered."""
        try:
            yield
        except RequestError as error:
            try:
                if error.status < 500:
                    await self._repository.forget(principal, key)
                else:
                    await self._repository.leave(principal, key)
            except Unavailable as fault:
                # The next try waits until the lease is over.
                _log.warning("idempotency_key_left", cause=fault.code)
            raise

    async def confirm(self, principal: Principal, key: RequestKey, thread_id: str) -> None:
        """It is made; from now on retries find it."""
        await self._repository.confirm(principal, key, thread_id)

    async def sweep(self) -> None:
        """One round."""
        limit = self._settings.sweep_batch
        while await self._repository.delete_old(limit=limit) == limit:
            pass

    async def sweep_forever(self) -> None:
        """Delete keys that hold no longer."""
        while True:
            await asyncio.sleep(self._settings.sweep_seconds)
            try:
                await self.sweep()
            except HeadraceError as fault:
                _log.warning("idempotency_sweep_skipped", cause=str(fault))
