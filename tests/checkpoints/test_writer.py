"""The group-commit writer: order, batches, back-pressure, lanes, and how it stops."""

import asyncio
import random
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from headrace.checkpoints.rows import WriteRows, checkpoint_rows
from headrace.checkpoints.run_writes import RunWrites
from headrace.checkpoints.saver import GroupCommitSaver
from headrace.checkpoints.upstream import ERROR_SOURCE
from headrace.checkpoints.writer import Writer
from headrace.lifecycle import Tasks
from headrace.observability.figures import FlushFigures
from headrace.queue.queue import Queue
from headrace.unavailable_errors import DatabaseUnavailable
from tests.support.chains import (
    CHANNEL,
    checkpoint_of,
    config_of,
    identity,
    put,
    put_writes,
)
from tests.support.database import open_pool
from tests.support.engine import open_saver, open_writer
from tests.support.proxy import proxied
from tests.support.runs import DONE, insert_running_run, register_process
from tests.support.waiting import eventually

#: A value of this many characters is large, where a test says what large is.
LARGE: dict[str, Any] = {"large_value_bytes": 4096}
LARGE_VALUE = "x" * 8000

SOON = 5.0


def rows(thread_id: str, number: int, value: Any = "v", run: RunWrites | None = None) -> WriteRows:
    """A checkpoint as an operation of the writer."""
    return checkpoint_rows(
        JsonPlusSerializer(),
        run,
        config_of(thread_id, number - 1),
        checkpoint_of(number, [value]),
        {"step": number},
        {CHANNEL: identity(number)},
    )


def transactions(database, thread_id: str) -> list[int]:
    """The transaction that wrote each checkpoint of a thread, in the order of the checkpoints."""
    return [
        row[0]
        for row in database.execute(
            "SELECT xmin::text::bigint FROM checkpoints WHERE thread_id = %s"
            " ORDER BY checkpoint_id",
            (thread_id,),
        )
    ]


def count(database) -> int:
    (number,) = database.execute("SELECT count(*) FROM checkpoints").fetchone()
    return int(number)


class Setup:
    """A writer behind a proxy, and what it flushed."""

    def __init__(self, writer: Writer, proxy, pool) -> None:
        self.writer = writer
        self.proxy = proxy
        self.pool = pool
        self.flushes: list[FlushFigures] = []
        self.tasks = Tasks()

    @property
    def committed(self) -> list[int]:
        """How many operations each flush committed."""
        return [flush.operations for flush in self.flushes if flush.outcome == "committed"]

    def commit(self, operation: WriteRows) -> asyncio.Task[Any]:
        return self.tasks.start(self.writer.commit(operation), name="commit")

    async def held(self, operation: WriteRows):
        """A flush that has done its work and whose COMMIT is held back."""
        commit = self.proxy.next_commit("hold")
        self.commit(operation)
        async with asyncio.timeout(SOON):
            await commit.reached.wait()
        return commit


@asynccontextmanager
async def setup(url: str, **changes: object):
    async with proxied(url) as proxy, open_pool(proxy.url, pool_min=3, pool_max=6) as pool:
        seen: list[FlushFigures] = []
        async with open_writer(pool, on_flush=seen.append, **changes) as writer:
            opened = Setup(writer, proxy, pool)
            opened.flushes = seen
            try:
                yield opened
            finally:
                proxy.flow()


async def test_operations_of_a_thread_are_committed_in_the_order_in_which_they_were_queued(
    database_url, database
):
    """Large ones among them, from writers that do not wait for one another, in small batches."""
    chance = random.Random(7)
    threads = [f"t{number}" for number in range(6)]

    async with setup(
        database_url, **LARGE, lanes=2, max_batch_operations=3, max_queued_operations=8
    ) as opened:
        for number in range(1, 25):
            for thread_id in threads:
                value = LARGE_VALUE if chance.random() < 0.2 else "small"
                opened.commit(rows(thread_id, number, value))
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await opened.tasks.join()
    for thread_id in threads:
        written = transactions(database, thread_id)
        assert len(written) == 24
        assert written == sorted(written), f"{thread_id} was overtaken"


async def test_what_comes_while_a_flush_is_in_flight_is_committed_together(database_url, database):
    async with setup(database_url, lanes=1) as opened:
        held = await opened.held(rows("first", 1))
        waiting = [opened.commit(rows(f"t{number}", 1)) for number in range(100)]
        await eventually(lambda: opened.writer.figures().operations == 101)
        held.release.set()
        await asyncio.gather(*waiting)
        print(f"101 operations in flushes of {opened.committed}")
        assert opened.committed == [1, 100]
    assert count(database) == 101


async def test_a_flush_carries_no_more_than_it_may(database_url):
    async with setup(
        database_url, lanes=1, max_batch_operations=10, max_batch_bytes=3000
    ) as opened:
        held = await opened.held(rows("first", 1))
        waiting = [opened.commit(rows(f"t{number}", 1, "x" * 1000)) for number in range(4)]
        waiting += [opened.commit(rows(f"s{number}", 1)) for number in range(25)]
        await eventually(lambda: opened.writer.figures().operations == 30)
        held.release.set()
        await asyncio.gather(*waiting)
        assert sum(opened.committed) == 30
        assert max(opened.committed) <= 10
        assert all(f.bytes <= 3000 for f in opened.flushes if f.operations > 1)


async def test_what_nobody_waits_for_lingers_until_somebody_does(database_url, database):
    async with setup(database_url, linger_seconds=60.0, lanes=1) as opened:
        for number in range(1, 4):
            await opened.writer.queue(rows("t", number))
        assert (opened.writer.figures().operations, count(database)) == (3, 0)
        async with asyncio.timeout(SOON):
            await opened.writer.settled("t")
        assert (opened.committed, count(database)) == ([3], 3)
        async with asyncio.timeout(SOON):
            await opened.writer.commit(rows("t", 4))


async def test_nobody_who_waits_lingers_behind_a_full_batch(database_url):
    """What did not fit into the flush that was hurried is in a hurry still."""
    async with (
        setup(database_url, linger_seconds=60.0, lanes=1, max_batch_operations=2) as opened,
        asyncio.timeout(SOON),
    ):
        await asyncio.gather(*[opened.writer.commit(rows(f"t{number}", 1)) for number in range(5)])
        for number in range(1, 4):
            await opened.writer.queue(rows("u", number))
        await opened.writer.settled("u")


@pytest.mark.parametrize("bound", [{"max_queued_operations": 2}, {"max_queued_bytes": 2500}])
async def test_a_full_queue_makes_callers_wait_and_loses_none(database_url, database, bound):
    async with setup(database_url, lanes=1, **bound) as opened:
        held = await opened.held(rows("first", 1, "x" * 500))
        waiting = [opened.commit(rows(f"t{number}", 1, "x" * 500)) for number in range(6)]
        await eventually(lambda: opened.writer.figures().waiting > 0)
        figures = opened.writer.figures()
        assert figures.operations + figures.waiting == 7
        assert figures.operations <= bound.get("max_queued_operations", 7)
        assert figures.bytes <= bound.get("max_queued_bytes", 1 << 30)
        held.release.set()
        await asyncio.gather(*waiting)
        assert opened.writer.figures() == type(figures)(0, 0, 0)
    assert count(database) == 7


async def test_a_value_larger_than_the_whole_queue_passes(database_url, database):
    async with setup(database_url, max_queued_bytes=1024, **LARGE) as opened, asyncio.timeout(30):
        await asyncio.gather(
            *[opened.writer.commit(rows(f"t{n}", 1, "x" * 3_000_000)) for n in range(3)],
            *[opened.writer.commit(rows(f"s{n}", 1)) for n in range(10)],
        )
    assert count(database) == 13


async def test_callers_that_give_up_waiting_leave_no_hole(database_url, database):
    chance = random.Random(11)
    async with setup(database_url, lanes=1, max_queued_operations=3) as opened:
        held = await opened.held(rows("first", 1))
        waiting = [opened.commit(rows(f"t{number}", 1)) for number in range(60)]
        await eventually(lambda: opened.writer.figures().waiting == 58)
        gone = chance.sample(waiting, 30)
        for task in gone[:15]:
            task.cancel()
        held.release.set()
        for task in gone[15:]:
            await asyncio.sleep(0)
            task.cancel()
        async with asyncio.timeout(SOON):
            results = await asyncio.gather(*waiting, return_exceptions=True)
            await opened.writer.commit(rows("last", 1))
        assert all(
            result is None or isinstance(result, asyncio.CancelledError) for result in results
        )
        acknowledged = [n for n, result in enumerate(results) if result is None]
        assert len(acknowledged) >= 30
        figures = opened.writer.figures()
        assert (figures.operations, figures.bytes, figures.waiting) == (0, 0, 0)
    there = {row[0] for row in database.execute("SELECT thread_id FROM checkpoints")}
    assert {f"t{number}" for number in acknowledged} <= there


async def test_a_caller_that_gives_up_leaves_its_write_and_those_of_others_alone(
    database_url, database
):
    async with setup(database_url, lanes=1) as opened:
        held = await opened.held(rows("first", 1))
        gone, stays = opened.commit(rows("gone", 1)), opened.commit(rows("stays", 1))
        await eventually(lambda: opened.writer.figures().operations == 3)
        gone.cancel()
        held.release.set()
        await stays
    assert count(database) == 3


async def test_while_a_flush_is_stuck_other_threads_take_another_lane(database_url):
    async with setup(database_url, lanes=2) as opened:
        held = await opened.held(rows("stuck", 1))
        behind = opened.commit(rows("stuck", 2))
        # Queued before anybody can know that the flush is stuck, and after that.
        for number in range(3):
            async with asyncio.timeout(SOON):
                await opened.writer.commit(rows("other", number + 1))
        assert not behind.done()
        held.release.set()
        await behind


async def test_as_long_as_flushes_are_short_one_lane_does_all_the_work(database_url):
    async with setup(database_url, lanes=8) as opened:
        await asyncio.gather(
            *(opened.writer.commit(rows(f"t{number}", 1)) for number in range(200))
        )
    assert len(opened.committed) <= 10


async def test_the_writes_of_a_thread_stay_in_order_while_a_flush_is_stuck(database_url, database):
    async with setup(database_url, lanes=3, max_batch_operations=3) as opened:
        held = await opened.held(rows("t0", 1))
        commits = {
            (thread, number): opened.commit(rows(f"t{thread}", number + 1))
            for number in range(1, 8)
            for thread in range(5)
        }
        async with asyncio.timeout(SOON):
            await asyncio.wait({task for (thread, _), task in commits.items() if thread})
        assert not any(task.done() for (thread, _), task in commits.items() if not thread)
        held.release.set()
        await asyncio.gather(*commits.values())
    for thread in range(5):
        written = transactions(database, f"t{thread}")
        assert len(written) == 7 + (thread == 0)
        assert written == sorted(written)


async def test_nothing_small_waits_behind_large_values_of_others(database_url):
    async with setup(database_url, lanes=1, **LARGE) as opened:
        held = await opened.held(rows("large", 1, LARGE_VALUE))
        async with asyncio.timeout(SOON):
            await opened.writer.commit(rows("small", 1))
        held.release.set()


@pytest.mark.parametrize("large", [1, 2, 3])
async def test_within_a_thread_a_large_value_neither_overtakes_nor_is_overtaken(
    database_url, database, large
):
    """Whichever of three it is, while the first of them is held back."""
    async with setup(database_url, lanes=1, **LARGE) as opened:
        held = await opened.held(rows("t", 1, LARGE_VALUE if large == 1 else "small"))
        behind = [
            opened.commit(rows("t", number, LARGE_VALUE if large == number else "small"))
            for number in (2, 3)
        ]
        # The lanes are free for others, and yet nobody passes the one that is held.
        await opened.writer.commit(rows("stranger", 1, LARGE_VALUE if large > 1 else "small"))
        assert transactions(database, "t") == []
        held.release.set()
        async with asyncio.timeout(SOON):
            await asyncio.gather(*behind)
    written = transactions(database, "t")
    assert len(written) == 3
    assert written == sorted(written)


async def test_a_read_waits_for_what_was_queued_before_it_and_for_nothing_later(database_url):
    """A run that never stops writing must not keep others from reading its thread."""
    async with (
        open_pool(database_url, pool_min=4, pool_max=4) as pool,
        open_saver(pool, lanes=1, max_queued_operations=4) as saver,
    ):
        tasks = Tasks()

        async def write_on() -> None:
            with saver.run():
                for number in range(1, 1_000_000):
                    await put(saver, "t", number, ["v"])

        writing = tasks.start(write_on(), name="writing")
        for _ in range(3):
            async with asyncio.timeout(SOON):
                found = await saver.aget_tuple(config_of("t"))
        assert found is not None
        assert not writing.done()
        writing.cancel()
        await tasks.join()


async def test_a_read_sees_what_was_queued_before_it(database_url):
    async with (
        open_pool(database_url) as pool,
        open_saver(pool, linger_seconds=60.0, **LARGE) as saver,
    ):
        with saver.run():
            for number in range(1, 6):
                await put(saver, "t", number, [LARGE_VALUE if number == 3 else "v"])
                async with asyncio.timeout(SOON):
                    found = await saver.aget_tuple(config_of("t"))
                assert found is not None
                assert found.checkpoint["id"] == identity(number)


async def test_stopping_commits_all_that_is_queued(database_url, database):
    async with open_pool(database_url) as pool:
        async with open_writer(pool, linger_seconds=60.0, **LARGE) as writer:
            for number in range(1, 41):
                value = LARGE_VALUE if number == 20 else "v"
                await writer.queue(rows(f"t{number % 4}", number, value))
            started = perf_counter()
        assert perf_counter() - started < SOON
        assert count(database) == 40
        with pytest.raises(DatabaseUnavailable):
            await writer.commit(rows("late", 1))
        await writer.stop()
    assert count(database) == 40


# It has a bound on time.
@pytest.mark.alone
@pytest.mark.parametrize("how", ["silent", "refusing"])
async def test_stopping_while_the_database_is_away_tells_everyone_within_the_limit(
    database_url, how
):
    """Those in flight, those queued, those held back behind them, those waiting for a place."""
    async with setup(
        database_url, lanes=1, drain_seconds=0.5, max_queued_operations=6, **LARGE
    ) as opened:
        if how == "silent":
            opened.proxy.stall()
        else:
            await opened.proxy.stop()
        waiting = [
            opened.commit(rows("t", number, LARGE_VALUE if number == 3 else "v"))
            for number in range(1, 11)
        ]
        await eventually(lambda: opened.writer.figures().waiting == 4)
        reading = opened.tasks.start(opened.writer.settled("t"), name="reading")
        started = perf_counter()
        await opened.writer.stop()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        seconds = perf_counter() - started
        print(f"stopped after {seconds:.2f} s")
        assert seconds < 2.0
        assert [type(result) for result in results] == [DatabaseUnavailable] * 10
        await reading
        figures = opened.writer.figures()
        assert (figures.operations, figures.bytes, figures.waiting) == (0, 0, 0)


async def test_with_durability_sync_each_call_returns_after_its_commit(database_url, database):
    async with open_pool(database_url) as pool, open_saver(pool, linger_seconds=60.0) as saver:
        with saver.run(durability="sync"):
            for number in range(1, 4):
                await put(saver, "t", number, ["v"])
                assert count(database) == number


async def test_within_a_run_calls_return_when_queued_and_its_commit_is_awaited_once(
    database_url, database
):
    async with open_pool(database_url) as pool, open_saver(pool, linger_seconds=60.0) as saver:
        with saver.run() as writes:
            for number in range(1, 4):
                await put(saver, "t", number, ["v"])
                await put_writes(saver, "t", number, "w")
            assert count(database) == 0
            async with asyncio.timeout(SOON):
                await writes.committed()
        assert count(database) == 3


async def test_what_an_error_handler_handles_is_committed_before_it_starts(database_url, database):
    async with open_pool(database_url) as pool, open_saver(pool, linger_seconds=60.0) as saver:
        with saver.run():
            await put(saver, "t", 1, ["v"])
            await saver.aput_writes(config_of("t", 1), [(ERROR_SOURCE, "node")], "task")
        row = database.execute("SELECT channel FROM checkpoint_writes").fetchone()
        assert row == (ERROR_SOURCE,)


async def test_a_run_of_which_a_write_failed_writes_nothing_after_it_and_is_told(
    database_url, database
):
    async with open_pool(database_url) as pool, open_saver(pool, lanes=1) as saver:
        with saver.run() as writes:
            await put(saver, "t", 1, ["v"])
            await put(saver, "t", 2, ["v"], channel="with\0nul")
            await put(saver, "t", 3, ["v"])
            await put(saver, "bystander", 1, ["v"])
            with pytest.raises(psycopg.DataError):
                await writes.committed()
            with pytest.raises(psycopg.DataError):
                await put(saver, "t", 4, ["v"])
            with pytest.raises(psycopg.DataError):
                await writes.committed()
        # Another run on the same thread starts afresh.
        with saver.run() as again:
            await put(saver, "t", 2, ["again"])
            await again.committed()
    ids = {row[0] for row in database.execute("SELECT checkpoint_id FROM checkpoints")}
    assert ids == {identity(1), identity(2)}


async def test_many_that_wait_for_one_failed_run_are_all_told(database_url):
    async with open_pool(database_url) as pool, open_saver(pool, linger_seconds=60.0) as saver:
        with saver.run() as writes:
            await put(saver, "t", 1, ["v"], channel="with\0nul")
            results = await asyncio.gather(
                *[writes.committed() for _ in range(5)], return_exceptions=True
            )
    assert all(isinstance(result, psycopg.DataError) for result in results)


async def test_a_run_ends_only_after_what_it_wrote_to_other_threads(database_url, database):
    """A node may call another graph on another thread: those writes are the run's too."""
    own, other = "own", "other"
    process_id = register_process(database)
    token = insert_running_run(database, process_id, own)
    async with setup(database_url, lanes=2) as opened:
        saver = GroupCommitSaver(
            opened.pool, opened.writer, observe=lambda operation, seconds: None
        )
        queue = Queue(opened.pool, opened.writer)
        with saver.run(token) as writes:
            held = opened.proxy.next_commit("hold")
            await put(saver, other, 1, ["v"])
            await held.reached.wait()
            await put(saver, other, 2, ["v"])
            await put(saver, own, 1, ["v"])
        ending = opened.tasks.start(
            queue.end_if_owned(token, own, DONE, run=writes),
            name="end",
        )
        await eventually(lambda: transactions(database, own))
        assert not ending.done()
        held.release.set()
        await ending
        await writes.committed()
    assert len(transactions(database, other)) == 2
