"""Keys of the database in one process: what it remembers, for how long, and what that costs."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from headrace.auth.key_text import new_key
from headrace.auth.known_keys import KnownKeys
from headrace.auth.repository import KeyRepository
from headrace.auth_settings import AuthSettings
from headrace.errors import Unauthenticated
from headrace.lifecycle import Tasks
from headrace.unavailable_errors import DatabaseUnavailable, PoolExhausted, Unavailable
from tests.support.database import open_pool
from tests.support.stored_keys import revoke_key, store_key


class Watched(KeyRepository):
    """Notes what is read, and fails while there is a fault."""

    def __init__(self, pool: Any) -> None:
        super().__init__(pool)
        self.read_prefixes: list[list[str]] = []
        self.fault: Unavailable | None = None

    async def _rows(self, statement: str, values: Mapping[str, Any]) -> list[Any]:
        if self.fault is not None:
            raise self.fault
        if statement == "read":
            self.read_prefixes.append(values["prefixes"])
        return await super()._rows(statement, values)


@asynccontextmanager
async def known_keys(url: str, **settings: Any) -> AsyncIterator[tuple[KnownKeys, Watched]]:
    """Nothing refreshes them but the test."""
    tasks = Tasks()
    async with open_pool(url, pool_min=1, pool_max=4) as pool:
        repository = Watched(pool)
        keys = KnownKeys(repository, AuthSettings(**{"keys_refresh_seconds": 25, **settings}))
        keys.start(tasks)
        try:
            yield keys, repository
        finally:
            await tasks.stop()


class Clock:
    """Both clocks of the module, moved by the test."""

    seconds = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    for name in ("monotonic", "time"):
        real = getattr(time, name)
        moved = functools.partial(lambda real: real() + found.seconds, real)
        monkeypatch.setattr(f"headrace.auth.known_keys.{name}", moved)
    return found


async def test_a_key_opens_for_its_owner_and_is_read_once(database_url):
    key = store_key(database_url, tenant="acme", owner="job-1", scopes=["read", "tenant"])
    async with known_keys(database_url) as (keys, repository):
        found = await asyncio.gather(*(keys.principal(key.text) for _ in range(50)))
        assert len({id(one) for one in found}) == 1
        principal = found[0]
        assert (principal.identity, principal.tenant) == ("job-1", "acme")
        assert (principal.whole_tenant, principal.read_only) == (True, True)
        assert principal.caller == "tenant:acme"
        await keys.principal(key.text)
        assert repository.read_prefixes == [[key.prefix]]


async def test_callers_of_the_default_tenant_share_by_key(database_url):
    async with known_keys(database_url) as (keys, _):
        found = {(await keys.principal(store_key(database_url).text)).caller for _ in range(2)}
        assert len(found) == 2


async def test_a_wrong_secret_of_a_known_prefix_asks_nothing(database_url):
    key, other = store_key(database_url), new_key()
    async with known_keys(database_url) as (keys, repository):
        await keys.principal(key.text)
        wrong = f"hr_{key.prefix}_{other.text.rpartition('_')[2]}"
        for text in (wrong, key.text[:-1], key.text + "0", key.text.upper(), "hr_", "hr__", ""):
            with pytest.raises(Unauthenticated, match="not known here"):
                await keys.principal(text)
        assert len(repository.read_prefixes) == 1


async def test_unknown_keys_are_asked_for_together_and_remembered_in_a_bound(database_url):
    async with known_keys(database_url, keys_remembered=10) as (keys, repository):
        made_up = [new_key().text for _ in range(40)]
        answers = await asyncio.gather(*map(keys.principal, made_up), return_exceptions=True)
        assert all(isinstance(one, Unauthenticated) for one in answers)
        assert len(repository.read_prefixes) <= 3
        assert len(keys._unknown) == 10
        before = len(repository.read_prefixes)
        with pytest.raises(Unauthenticated):
            await keys.principal(made_up[-1])
        assert len(repository.read_prefixes) == before
        stored = [store_key(database_url).text for _ in range(12)]
        for text in stored:
            await keys.principal(text)
        assert len(keys._known) == 10
        await keys.principal(stored[0])


async def test_a_revoked_key_is_refused_after_the_next_refresh(database_url):
    key, other = store_key(database_url), store_key(database_url)
    async with known_keys(database_url) as (keys, repository):
        await keys.principal(key.text)
        await keys.principal(other.text)
        revoke_key(database_url, key)
        await keys.principal(key.text)
        await keys.refresh()
        for _ in range(3):
            with pytest.raises(Unauthenticated, match="was revoked"):
                await keys.principal(key.text)
        await keys.principal(other.text)
        # Read at first, and once more to tell why it is gone.
        assert len(repository.read_prefixes) == 3


async def test_without_a_refresh_in_time_each_key_is_asked_for(database_url, clock):
    """The task that refreshes may hang, or find no connection."""
    key = store_key(database_url)
    async with known_keys(database_url) as (keys, repository):
        await keys.principal(key.text)
        revoke_key(database_url, key)
        repository.fault = PoolExhausted()
        clock.seconds += 28
        await keys.principal(key.text)
        clock.seconds += 2
        with pytest.raises(PoolExhausted):
            await keys.principal(key.text)
        repository.fault = None
        with pytest.raises(Unauthenticated, match="was revoked"):
            await keys.principal(key.text)


async def test_a_key_expires_by_the_clock(database_url, clock):
    key = store_key(database_url, expires_in=600)
    async with known_keys(database_url) as (keys, _):
        await keys.principal(key.text)
        clock.seconds += 601
        with pytest.raises(Unauthenticated, match="has expired"):
            await keys.principal(key.text)


async def test_while_the_database_is_away_known_keys_open_for_a_time(database_url, clock):
    key, other = store_key(database_url), store_key(database_url)
    async with known_keys(database_url, keys_away_seconds=300) as (keys, repository):
        await keys.principal(key.text)
        repository.fault = DatabaseUnavailable()
        for _ in range(9):
            clock.seconds += 30
            await keys.principal(key.text)
        with pytest.raises(DatabaseUnavailable):
            await keys.refresh()
        await keys.principal(key.text)
        with pytest.raises(DatabaseUnavailable):
            await keys.principal(other.text)
        clock.seconds += 60
        with pytest.raises(DatabaseUnavailable):
            await keys.principal(key.text)
        repository.fault = None
        await keys.principal(key.text)
        await keys.principal(other.text)


async def test_the_last_use_is_noted_once_in_a_while(database_url, database):
    used, unused = store_key(database_url), store_key(database_url)
    async with known_keys(database_url) as (keys, _):
        await keys.principal(used.text)
        await keys.refresh()
        query = "SELECT last_used_at FROM api_keys WHERE prefix = %s"
        (first,) = database.execute(query, (used.prefix,)).fetchone()
        assert first is not None
        await keys.principal(used.text)
        await keys.refresh()
        assert database.execute(query, (used.prefix,)).fetchone() == (first,)
        assert database.execute(query, (unused.prefix,)).fetchone() == (None,)
