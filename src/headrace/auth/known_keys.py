"""The keys of the database that a process knows, so that most requests need no statement.

A key never changes but for its revocation. So a process asks every few seconds only which of the
keys that it knows are gone. If it could not ask, because the database is away, it accepts what it
knows for a bounded time.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from hmac import compare_digest
from time import monotonic, time
from typing import TypeVar

import structlog

from headrace.auth.key_text import digest_of, prefix_of
from headrace.auth.principal import Principal, caller_of
from headrace.auth.repository import KeyRepository, StoredKey
from headrace.auth.scopes import TENANT, WRITE
from headrace.auth_settings import AuthSettings
from headrace.errors import Unauthenticated
from headrace.lifecycle import Tasks
from headrace.unavailable_errors import DatabaseUnavailable, Overloaded, Unavailable

_T = TypeVar("_T")

_log = structlog.stdlib.get_logger("headrace.auth")

#: A process that could not ask for this much longer than usual asks again for each key.
_LATE_SECONDS = 4.0
#: Requests that may wait for keys to be read.
_MOST_WAITING = 1000
#: A process notes the use of a key so often.
_NOTE_SECONDS = 60.0


@dataclass(slots=True)
class _Known:
    key: StoredKey
    principal: Principal
    #: When the database was last asked about it.
    asked_at: float
    used: bool = False
    noted_at: float = -_NOTE_SECONDS


class KnownKeys:
    """One per process. Call :meth:`start` once."""

    def __init__(self, repository: KeyRepository, settings: AuthSettings) -> None:
        self._repository = repository
        self._refresh_seconds = settings.keys_refresh_seconds
        self._fresh_seconds = settings.keys_refresh_seconds + min(
            settings.keys_refresh_seconds, _LATE_SECONDS
        )
        self._away_seconds = settings.keys_away_seconds
        self._most = settings.keys_remembered
        self._known: dict[str, _Known] = {}
        #: Prefixes of which the database has no key, and when it was asked.
        self._unknown: dict[str, float] = {}
        #: The database did not answer when it was last asked.
        self._is_away = False
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._reading = False
        self._tasks: Tasks | None = None

    def start(self, tasks: Tasks) -> None:
        """Ask the database regularly, until the tasks are stopped."""
        self._tasks = tasks
        tasks.repeat(
            self.refresh,
            every_seconds=self._refresh_seconds,
            name="known-keys",
            log=_log,
            skipped_event="keys_not_refreshed",
        )

    async def principal(self, text: str) -> Principal:
        """The caller with this key.

        :raises Unauthenticated: there is no such key, or it has expired or was revoked.
        :raises Unavailable: the process does not know the key, and cannot read it now.
        """
        prefix = prefix_of(text)
        if prefix is None:
            raise _unknown()
        now = monotonic()
        known = self._known.get(prefix)
        if known is None or now - known.asked_at > self._fresh_seconds:
            known = await self._asked(prefix, known, now)
        # The time of the answer tells nothing about the secret.
        if known is None or not compare_digest(known.key.digest, digest_of(text)):
            raise _unknown()
        if known.key.revoked:
            raise Unauthenticated("This API key was revoked; ask for a new one.")
        if known.key.expires_at is not None and known.key.expires_at <= time():
            raise Unauthenticated("This API key has expired; ask for a new one.")
        known.used = True
        return known.principal

    async def refresh(self) -> None:
        """Forget the keys that are revoked, and note which ones were used.

        :raises Unavailable: the database could not be reached.
        """
        now = monotonic()
        prefixes = list(self._known)
        self._unknown = {
            prefix: asked_at
            for prefix, asked_at in self._unknown.items()
            if now - asked_at < self._refresh_seconds
        }
        if not prefixes:
            self._is_away = False
            return
        try:
            gone = set(await self._repository.gone(prefixes))
        except DatabaseUnavailable:
            self._is_away = True
            raise
        self._is_away = False
        for prefix in prefixes:
            if (known := self._known.get(prefix)) is None:
                continue
            if prefix in gone and not known.key.revoked:
                # It is read anew if it comes again.
                del self._known[prefix]
            else:
                known.asked_at = max(known.asked_at, now)
        await self._note_used(now)

    async def _note_used(self, now: float) -> None:
        used = {
            prefix: known
            for prefix, known in self._known.items()
            if known.used and now - known.noted_at >= _NOTE_SECONDS
        }
        if not used:
            return
        await self._repository.note_used(used)
        for known in used.values():
            known.used, known.noted_at = False, now

    async def _asked(self, prefix: str, known: _Known | None, now: float) -> _Known | None:
        """What the database says of a prefix; while it is away, what it has said before."""
        if known is None and now - self._unknown.get(prefix, -self._refresh_seconds) < (
            self._refresh_seconds
        ):
            return None
        usable = known is not None and now - known.asked_at <= self._away_seconds
        if usable and self._is_away:
            return known
        try:
            await self._read(prefix)
        except DatabaseUnavailable:
            if usable:
                return known
            raise
        return self._known.get(prefix)

    async def _read(self, prefix: str) -> None:
        """Read a key. All that wait are read together, by one statement at a time: callers that
        make up keys cost the database no more than that.

        :raises Overloaded: too many wait.
        """
        found = self._waiting.get(prefix)
        if found is None:
            if len(self._waiting) >= _MOST_WAITING:
                raise Overloaded
            found = self._waiting[prefix] = asyncio.get_running_loop().create_future()
        if not self._reading:
            assert self._tasks is not None
            self._reading = True
            self._tasks.start(self._read_waiting(), name="read-keys")
        # Each waits for itself: one that leaves does not take the answer from the others.
        await asyncio.shield(found)

    async def _read_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                await self._read_batch(batch)
        finally:
            self._reading = False

    async def _read_batch(self, batch: dict[str, asyncio.Future[None]]) -> None:
        asked_at = monotonic()
        try:
            rows = await self._repository.read(batch)
        except Unavailable as error:
            self._is_away = isinstance(error, DatabaseUnavailable)
            _end(batch.values(), error)
            return
        except BaseException as error:
            # The error is logged by the task; callers may try again.
            _end(batch.values(), DatabaseUnavailable())
            raise error
        self._is_away = False
        found = {row.prefix: row for row in rows}
        for prefix in batch:
            self._unknown.pop(prefix, None)
            if (row := found.get(prefix)) is None:
                self._known.pop(prefix, None)
                _put(self._unknown, prefix, asked_at, self._most)
            else:
                before = self._known.get(prefix)
                noted_at = before.noted_at if before is not None else -_NOTE_SECONDS
                known = _Known(row, principal_of_key(row), asked_at, noted_at=noted_at)
                _put(self._known, prefix, known, self._most)
        _end(batch.values(), None)


def principal_of_key(key: StoredKey) -> Principal:
    """The caller with this key."""
    return Principal(
        identity=key.owner,
        tenant=key.tenant,
        whole_tenant=TENANT in key.scopes,
        permissions=key.scopes,
        read_only=WRITE not in key.scopes,
        caller=caller_of(key.tenant, key.prefix),
    )


def _unknown() -> Unauthenticated:
    return Unauthenticated("This API key is not known here.")


def _put(memory: dict[str, _T], prefix: str, value: _T, most: int) -> None:
    if prefix not in memory and len(memory) >= most:
        del memory[next(iter(memory))]
    memory[prefix] = value


def _end(waiting: Iterable[asyncio.Future[None]], error: Exception | None) -> None:
    for one in waiting:
        if one.done():
            continue
        if error is None:
            one.set_result(None)
        else:
            one.set_exception(error)
            # Nobody may wait any more.
            one.exception()
