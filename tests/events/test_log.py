"""Stored events: behind the fence, once each, read in pages, deleted in batches."""

import asyncio
import struct

import pytest

from headrace.checkpoints.fence import RunToken
from headrace.errors import LeaseLost
from headrace.event_settings import EventSettings
from headrace.events.event import Event
from headrace.events.log import EventLog
from headrace.ids import uuid7
from headrace.unavailable_errors import StatementTooSlow
from tests.db.conditions import while_connections_break
from tests.support.database import open_pool
from tests.support.engine import open_writer
from tests.support.runs import insert_running_run, register_process


@pytest.fixture
async def log(database_url):
    async with open_pool(database_url) as pool, open_writer(pool) as writer:
        yield EventLog(pool, writer, EventSettings(batch_events=3, batch_bytes=1024))


def events(*ids: int) -> list[Event]:
    return [Event.of(number, "custom", {"n": number}, resumable=True) for number in ids]


def stored(database) -> list[int]:
    return [row[0] for row in database.execute("SELECT event_id FROM run_events ORDER BY 1")]


async def test_events_are_stored_once_and_read_in_pages(log, database):
    token = insert_running_run(database, register_process(database), "t")
    await log.store("t", token, events(1, 2, 3, 4, 5))
    await log.store("t", token, events(4, 5, 6))
    assert stored(database) == [1, 2, 3, 4, 5, 6]
    assert await log.last_id(token.run_id) == 6
    assert await log.read(token.run_id, 1) == events(2, 3, 4)
    assert await log.read(token.run_id, 4, 6) == events(5)


async def test_a_page_is_bounded_in_bytes_but_one_event_always_fits(log, database):
    token = insert_running_run(database, register_process(database), "t")
    large = [Event.of(n, "custom", "x" * 700, resumable=True) for n in (1, 2, 3)]
    await log.store("t", token, [*large, Event.of(4, "custom", "x" * 9000, resumable=True)])
    assert await log.read(token.run_id, 0) == large[:2]
    assert [event.event_id for event in await log.read(token.run_id, 2)] == [3, 4]
    assert [event.event_id for event in await log.read(token.run_id, 3)] == [4]


@pytest.mark.parametrize("how", ["lost", "attempt", "owner", "ended"])
async def test_a_process_that_lost_the_run_stores_no_event(log, database, how):
    token = insert_running_run(database, register_process(database), "t")
    if how == "lost":
        database.execute("UPDATE processes SET lost = true")
    elif how == "attempt":
        database.execute("UPDATE runs SET attempt = 2")
    elif how == "owner":
        database.execute("UPDATE runs SET process_id = %s", (register_process(database),))
    else:
        database.execute("UPDATE runs SET status = 'success', ended_at = now()")
    mine = insert_running_run(database, register_process(database), "other")
    with pytest.raises(LeaseLost):
        await log.store("t", token, events(1))
    await log.store("other", mine, events(7))
    assert stored(database) == [7]


async def test_events_are_deleted_in_batches_once_they_are_old_enough(log, database):
    owner = register_process(database)
    tokens = [insert_running_run(database, owner, f"t{number}") for number in range(7)]
    for token, thread_id in zip(tokens, (f"t{n}" for n in range(7)), strict=True):
        await log.store(thread_id, token, events(*range(1, 12)))

    def end(token: RunToken, seconds: int) -> None:
        database.execute(
            "UPDATE runs SET status = 'success', ended_at = now() - make_interval(secs => %s)"
            " WHERE run_id = %s",
            (seconds, token.run_id),
        )

    end(tokens[0], 700)
    end(tokens[1], 500)
    end(tokens[5], 700)
    database.execute("DELETE FROM runs WHERE run_id = %s", (tokens[3].run_id,))
    assert await log.delete_expired(600, runs=2, rows=4) == 33
    left = {row[0] for row in database.execute("SELECT DISTINCT run_id FROM run_events")}
    assert left == {tokens[number].run_id for number in (1, 2, 4, 6)}
    assert await log.delete_expired(600) == 0


async def test_a_run_that_nobody_knows_is_not_watched(log):
    assert await log.is_watched(uuid7()) is False


async def test_events_that_cannot_be_stored_fail_alone(log, database):
    owner = register_process(database)
    good, bad = (insert_running_run(database, owner, name) for name in ("good", "bad"))
    told = await asyncio.gather(
        log.store("good", good, events(1)),
        log.store("bad", bad, events(2**63)),
        log.store("good", good, events(2)),
        return_exceptions=True,
    )
    assert told[0] is told[2] is None
    assert isinstance(told[1], struct.error)
    assert stored(database) == [1, 2]
    await log.store("bad", bad, events(3))
    assert stored(database) == [1, 2, 3]


async def test_the_last_id_is_read_again_where_a_connection_broke(log, database, database_url):
    """A run that goes on after a crash needs it: often the database was away at that moment."""
    token = insert_running_run(database, register_process(database), "t")
    await log.store("t", token, events(1, 2))

    async def read() -> None:
        assert await log.last_id(token.run_id) == 2

    await while_connections_break(database_url, read, readers=4)


async def test_a_read_that_takes_too_long_is_no_fault_of_the_graph(database_url, database):
    async with open_pool(database_url, pool_min=1, pool_max=1) as pool, open_writer(pool) as writer:
        log = EventLog(pool, writer, EventSettings())
        async with pool.connection() as connection:
            await connection.execute("SET statement_timeout = '50ms'")
        with database.transaction():
            database.execute("LOCK TABLE run_events")
            with pytest.raises(StatementTooSlow):
                await log.last_id(uuid7())


async def test_a_lost_statement_is_prepared_again(database_url):
    """What stands between, or a user's own ``DEALLOCATE ALL``, may have it forgotten."""
    async with open_pool(database_url, pool_min=1, pool_max=1) as pool, open_writer(pool) as writer:
        log = EventLog(pool, writer, EventSettings())
        for _ in range(8):
            await log.last_id(uuid7())
        async with pool.connection() as connection:
            connection.pgconn.exec_(b"DEALLOCATE ALL")
        async with asyncio.timeout(5):
            assert await log.last_id(uuid7()) == 0
