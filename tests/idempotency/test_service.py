"""How long keys hold, and that those which hold no longer go."""

import pytest

from headrace.auth.principal import ANONYMOUS
from headrace.db.engine import Sessions, build_engine
from headrace.errors import IdempotencyKeyReused
from headrace.event_settings import IdempotencySettings
from headrace.idempotency.schemas import RequestKey
from headrace.idempotency.service import IdempotencyService
from tests.support.database import open_pool


@pytest.fixture
async def service(database_url):
    async with open_pool(database_url) as pool:
        engine = build_engine(pool)
        settings = IdempotencySettings(keep_seconds=60, sweep_batch=2)
        yield IdempotencyService(Sessions(engine, timeout_seconds=5), settings)
        await engine.dispose()


def age(database, seconds, *keys):
    database.execute(
        "UPDATE idempotency_keys SET created_at = now() - make_interval(secs => %s)"
        " WHERE key = ANY (%s)",
        (seconds, list(keys)),
    )


def keys(database):
    return {row[0] for row in database.execute("SELECT key FROM idempotency_keys")}


async def test_a_sweep_deletes_what_holds_no_longer_in_batches(service, database):
    for name in "abcdefg":
        await service.reserve(ANONYMOUS, RequestKey.of("/runs", name, b""))
    age(database, 61, *"abcde")
    age(database, 59, "f")
    await service.sweep()
    assert keys(database) == {"f", "g"}


async def test_a_key_is_new_after_its_time(service, database):
    first = await service.reserve(ANONYMOUS, RequestKey.of("/runs", "a", b"1"))
    await service.confirm(ANONYMOUS, RequestKey.of("/runs", "a", b"1"), "t")
    age(database, 59, "a")
    with pytest.raises(IdempotencyKeyReused):
        await service.reserve(ANONYMOUS, RequestKey.of("/runs", "a", b"2"))
    age(database, 61, "a")
    again = await service.reserve(ANONYMOUS, RequestKey.of("/runs", "a", b"2"))
    assert not again.made
    assert again.resource_id != first.resource_id
