"""The database fails in the middle of what the writer does, in every way we know.

Afterwards, whatever happened: every write that was acknowledged is there, none is half there, none
is there with foreign content, a run's chain has no hole; each acknowledged start has its one run,
and a thread is busy exactly while a run runs.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from langgraph.checkpoint.base import CheckpointMetadata

from headrace.checkpoints.fence import RunToken, process_key
from headrace.checkpoints.saver import GroupCommitSaver
from headrace.checkpoints.writer import Writer
from headrace.db.pool import SharedPool
from headrace.errors import LeaseLost, ThreadBusy
from headrace.lifecycle import Tasks
from headrace.observability.figures import FlushFigures
from headrace.queue.queue import Queue
from headrace.unavailable_errors import Unavailable
from tests.db.conditions import kill_backends
from tests.support.chains import Ledger, checkpoint_of, config_of, identity, put
from tests.support.database import open_pool
from tests.support.engine import open_writer
from tests.support.proxy import Proxy, proxied
from tests.support.runs import (
    DONE,
    default_isolation,
    insert_running_run,
    register_process,
    run_request,
)
from tests.support.waiting import eventually

ISOLATIONS = ("read committed", "repeatable read")

SOON = 5.0

#: What a caller may be told when something went wrong.
FAILURES = (Unavailable, LeaseLost, psycopg.Error)


@dataclass
class World:
    """A process under load, and everything its callers were told."""

    url: str
    proxy: Proxy
    pool: SharedPool
    writer: Writer
    saver: GroupCommitSaver
    queue: Queue
    process_id: UUID
    flushes: list[FlushFigures]
    ledger: Ledger = field(default_factory=Ledger)
    tasks: Tasks = field(default_factory=Tasks)
    started: set[UUID] = field(default_factory=set)
    ended: set[UUID] = field(default_factory=set)
    #: Thread and failure of what went wrong.
    failures: list[tuple[str, BaseException]] = field(default_factory=list)

    async def run(self, thread_id: str, *, steps: int = 6, value: Any = "v", pace: int = 3) -> None:
        """One run from start to end, as the executor does it, on a thread of its own.

        :param pace: after so many steps it waits for their commit.
        """
        asked = run_request(thread_id)
        try:
            await self.queue.start_run_if_free(asked, self.process_id)
            self.started.add(asked.run_id)
            token = RunToken(asked.run_id, 1, self.process_id)
            with self.saver.run(token) as writes:
                for number in range(1, steps + 1):
                    await self.ledger.put(self.saver, thread_id, number, [thread_id, value])
                    await self.ledger.put_writes(self.saver, thread_id, number, number)
                    if number % pace == 0:
                        await writes.committed()
                        self.ledger.acknowledge(thread_id, range(1, number + 1))
                await self.queue.end_if_owned(token, thread_id, DONE, run=writes)
            self.ended.add(asked.run_id)
            self.ledger.acknowledge(thread_id, range(1, steps + 1))
        except FAILURES as failure:
            self.failures.append((thread_id, failure))

    async def compete(self, thread_id: str) -> None:
        """A run that writes nothing, on a thread that others want too; its end is repeated."""
        asked = run_request(thread_id)
        token = RunToken(asked.run_id, 1, self.process_id)
        try:
            await self.queue.start_run_if_free(asked, self.process_id)
            self.started.add(asked.run_id)
            await self.queue.end_if_owned(token, thread_id, DONE)
            self.ended.add(asked.run_id)
            await self.queue.end_if_owned(token, thread_id, DONE)
        except ThreadBusy:
            pass
        except FAILURES as failure:
            self.failures.append((thread_id, failure))

    def load(self, runs: int, *, steps: int = 6) -> None:
        """Runs and competitors, all at once."""
        for number in range(runs):
            self.tasks.start(self.run(f"own-{number}", steps=steps), name="run")
            self.tasks.start(self.compete(f"shared-{number % 3}"), name="competitor")

    async def progress(self, steps: int) -> None:
        """Return when so many more steps are acknowledged."""
        wanted = len(self.ledger.acknowledged) + steps
        await eventually(lambda: len(self.ledger.acknowledged) >= wanted)

    async def over(self, *, seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            await self.tasks.join()
            await eventually(lambda: self.writer.figures().operations == 0)

    def problems(self) -> list[str]:
        return [*self.ledger.problems(self.url), *self._run_problems()]

    def _run_problems(self) -> list[str]:
        with psycopg.connect(self.url, autocommit=True) as database:
            statuses: dict[UUID, str] = dict(
                database.execute("SELECT run_id, status FROM runs").fetchall()
            )
            slots = database.execute(
                "SELECT thread_id, threads.status, running_run_id, runs.status FROM threads"
                " LEFT JOIN runs USING (thread_id)"
                " WHERE runs.run_id = running_run_id OR running_run_id IS NULL"
                " OR runs.status = 'running'"
            ).fetchall()
        found = [f"no run for the start of {run_id}" for run_id in self.started - statuses.keys()]
        found += [
            f"{run_id} is {statuses.get(run_id)!r} although its end was acknowledged"
            for run_id in self.ended
            if statuses.get(run_id) != "success"
        ]
        found += [
            f"thread {thread_id} is {status} for {running_run_id}, its run {run_status}"
            for thread_id, status, running_run_id, run_status in slots
            if (status == "busy") != (running_run_id is not None)
            or (status == "busy") != (run_status == "running")
        ]
        return found


@asynccontextmanager
async def world(
    url: str, *, isolation: str = "read committed", size: int = 4, **changes: Any
) -> AsyncIterator[World]:
    with default_isolation(url, isolation):
        with psycopg.connect(url, autocommit=True) as database:
            process_id = register_process(database)
        flushes: list[FlushFigures] = []
        async with (
            proxied(url) as proxy,
            open_pool(proxy.url, pool_min=size, pool_max=size) as pool,
            open_writer(pool, on_flush=flushes.append, **changes) as writer,
        ):
            saver = GroupCommitSaver(pool, writer, observe=lambda operation, seconds: None)
            queue = Queue(pool, writer)
            try:
                yield World(url, proxy, pool, writer, saver, queue, process_id, flushes)
            finally:
                proxy.flow()
                await saver.stop()


@pytest.fixture(params=ISOLATIONS)
def isolation(request) -> str:
    return str(request.param)


async def test_without_any_fault_everything_is_acknowledged_and_there(database_url, isolation):
    async with world(database_url, isolation=isolation) as on:
        on.load(20)
        await on.over()
        assert on.failures == []
        assert len(on.ended) >= 20
        assert on.problems() == []


@pytest.mark.parametrize("fault", ["hold", "drop", "drop_answer"])
async def test_a_commit_that_is_lost_or_of_which_the_answer_is_lost_is_repeated(
    database_url, isolation, fault
):
    """Several runs' starts, rows and ends share the flush; ``hold`` kills the backend before the
    COMMIT reaches it."""
    async with world(database_url, isolation=isolation) as on:
        # Under the stricter level the process tries one call that the function refuses.
        locked = isolation != "read committed"
        met = [on.proxy.next_commit(fault, locked=locked) for _ in range(4)]
        on.load(12, steps=12)
        for commit in met:
            async with asyncio.timeout(SOON):
                await commit.reached.wait()
            if fault == "hold":
                kill_backends(database_url)
                commit.release.set()
        await on.over()
        assert on.failures == []
        assert on.problems() == []


async def test_backends_killed_again_and_again_under_load_lose_nothing(database_url, isolation):
    async with world(database_url, isolation=isolation) as on:
        killed = 0
        on.load(12, steps=90)
        for _ in range(6):
            await on.progress(30)
            killed += kill_backends(database_url)
        await on.over()
        print(f"{killed} backends killed, {len(on.failures)} failures told")
        assert killed >= 6
        assert on.failures == []
        assert on.problems() == []


async def test_connections_cut_on_the_way_lose_nothing(database_url):
    chance = random.Random(3)
    async with world(database_url) as on:
        on.load(12, steps=90)
        for _ in range(8):
            await on.progress(chance.randrange(1, 40))
            on.proxy.cut()
        await on.over()
        assert on.failures == []
        assert on.problems() == []


# It has a bound on time.
@pytest.mark.alone
async def test_a_server_that_falls_silent_is_left_for_another_connection(database_url):
    """Once before the COMMIT has reached it, with all locks held; once altogether."""
    async with world(database_url, flush_timeout_seconds=0.5) as on:
        held = on.proxy.next_commit("hold")
        on.load(6)
        await held.reached.wait()
        started = perf_counter()
        await on.over()
        seconds = perf_counter() - started
        print(f"gone on after {seconds:.2f} s, limit 0.5 s")
        assert seconds < 5.0
        assert on.failures == []
        held.release.set()
        on.proxy.stall()
        on.tasks.start(on.run("late"), name="late")
        given_up = len(on.flushes)
        await eventually(lambda: len(on.flushes) > given_up)
        assert on.flushes[-1].outcome == "retried"
        on.proxy.flow()
        await on.over()
        assert on.failures == []
        assert on.problems() == []


async def test_a_read_is_repeated_when_the_server_falls_silent(database_url):
    async with world(database_url) as on:
        await put(on.saver, "t", 1, ["v"])
        impatient = GroupCommitSaver(
            on.pool, on.writer, observe=lambda operation, seconds: None, read_timeout_seconds=0.3
        )
        on.proxy.stall()
        reading = on.tasks.start(impatient.aget_tuple(config_of("t")), name="read")
        await eventually(lambda: on.pool.get_stats().get("returns_bad", 0) > 0)
        on.proxy.flow()
        async with asyncio.timeout(SOON):
            found = await reading
        assert found is not None
        await impatient.stop()


async def test_what_shares_a_read_with_something_unreadable_is_read(database_url):
    async with world(database_url) as on:
        await put(on.saver, "t", 1, ["v"])
        ids = ["t", "half a pair \ud800", "nul \0", "t", "nobody"]
        results = await asyncio.gather(
            *[on.saver.aget_tuple(config_of(thread_id)) for thread_id in ids],
            return_exceptions=True,
        )
        assert isinstance(results[1], UnicodeEncodeError)
        assert isinstance(results[2], psycopg.DataError)
        for good in (results[0], results[3]):
            assert not isinstance(good, BaseException)
            assert good is not None
        assert results[4] is None


@pytest.mark.parametrize("killed", [1, 4])
async def test_reads_that_share_a_dying_connection_are_answered(database_url, killed):
    async with world(database_url) as on:
        for number in range(20):
            await put(on.saver, f"t{number}", 1, ["v"])
        for _ in range(killed):
            reads = [
                on.tasks.start(on.saver.aget_tuple(config_of(f"t{n}")), name="read")
                for n in range(20)
            ]
            await asyncio.sleep(0)
            kill_backends(database_url)
            async with asyncio.timeout(SOON):
                results = await asyncio.gather(*reads)
            assert all(result is not None for result in results)


async def test_a_restart_of_postgres_in_mid_batch_loses_nothing(private_postgres):
    """``-m immediate``, with flushes in flight: nothing is rolled back in order."""
    postgres = private_postgres
    async with world(postgres.url, isolation="repeatable read") as on:
        met = [on.proxy.next_commit("hold") for _ in range(2)]
        on.load(12, steps=10)
        for commit in met:
            await commit.reached.wait()
        await asyncio.to_thread(postgres.crash)
        for commit in met:
            commit.release.set()
        await asyncio.to_thread(postgres.start)
        await on.over(seconds=60)
        assert on.failures == []
        assert on.problems() == []


async def test_a_database_that_takes_no_writes_for_a_while_is_waited_for(database_url):
    """As behind a failover: sessions die, and new ones find a server that only reads."""

    def alter(change: str) -> None:
        with psycopg.connect(
            database_url, autocommit=True, options="-c default_transaction_read_only=off"
        ) as database:
            database.execute(f"ALTER DATABASE {database.info.dbname} {change}")
        kill_backends(database_url)

    async with world(database_url, lanes=1) as on:
        held = on.proxy.next_commit("hold")
        on.load(4)
        await held.reached.wait()
        alter("SET default_transaction_read_only = on")
        held.release.set()
        # The first is the killed session's.
        await eventually(lambda: len([f for f in on.flushes if f.outcome == "retried"]) >= 3)
        alter("RESET default_transaction_read_only")
        await on.over()
        assert on.failures == []
        assert on.problems() == []


#: What an index takes no key of, even compressed.
_LONG_NAME = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9000))

#: By name: the channel, its value, and the note in the metadata.
POISON: dict[str, tuple[str, Any, Any]] = {
    "a channel name that no index takes": (_LONG_NAME, ["v"], ""),
    "a NUL in a channel's name": ("\0", ["v"], ""),
}


@pytest.mark.parametrize("poison", POISON)
async def test_one_bad_row_among_a_hundred_fails_alone(database_url, poison):
    """With the rest of its run, whose chain must have no hole; everybody else is committed."""
    channel, value, note = POISON[poison]
    async with world(database_url, isolation="repeatable read", lanes=1) as on:
        held = on.proxy.next_commit("hold")
        on.tasks.start(on.run("first", steps=1), name="first")
        await held.reached.wait()
        for number in range(100):
            on.tasks.start(on.run(f"good-{number}", steps=2), name="good")
        with psycopg.connect(database_url, autocommit=True) as database:
            token = insert_running_run(database, on.process_id, "bad")
        with on.saver.run(token) as writes:
            await on.ledger.put(on.saver, "bad", 1, ["v"])
            await on.saver.aput(
                config_of("bad", 1),
                checkpoint_of(2, value, channel),
                cast("CheckpointMetadata", {"step": 2, "note": note}),
                {channel: identity(2)},
            )
            await put(on.saver, "bad", 3, ["after"])
            held.release.set()
            with pytest.raises(psycopg.Error) as told:
                await writes.committed()
            assert told.value.sqlstate is not None
            print(type(told.value).__name__)
            with pytest.raises(type(told.value)):
                await put(on.saver, "bad", 4, ["after"])
        await on.over()
        assert on.failures == []
        assert len(on.ended) == 101
        assert on.problems() == []


async def test_a_huge_value_that_violates_nothing_is_written_beside_the_others(database_url):
    async with world(database_url) as on:
        on.tasks.start(on.run("huge", steps=2, value="x" * 12_000_000), name="huge")
        on.load(10)
        await on.over()
        assert on.failures == []
        assert on.problems() == []


def rows_waited_for(database: psycopg.Connection[Any]) -> int:
    """By how many sessions."""
    row = database.execute(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
    ).fetchone()
    assert row is not None
    return int(row[0])


async def test_a_row_that_somebody_else_holds_delays_its_writer_alone(database_url):
    """Told at the limit, and written when the row is free and the run tries again."""
    async with world(
        database_url, isolation="repeatable read", lanes=1, lock_timeout_seconds=0.1
    ) as on:
        with psycopg.connect(database_url) as foreign:
            foreign.execute(
                "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint)"
                " VALUES ('held', %s, '{}')",
                (identity(1),),
            )
            held = on.proxy.next_commit("hold")
            on.tasks.start(on.run("first", steps=1), name="first")
            await held.reached.wait()
            blocked = on.tasks.start(put(on.saver, "held", 1, ["v"]), name="blocked")
            for number in range(30):
                on.tasks.start(on.run(f"free-{number}", steps=2), name="free")
            await eventually(lambda: on.writer.figures().operations >= 20)
            held.release.set()
            with pytest.raises(Unavailable):
                await blocked
            await on.over()
            foreign.rollback()
        await on.ledger.put(on.saver, "held", 1, ["again"])
        assert on.failures == []
        assert on.problems() == []


# It has a bound on time.
@pytest.mark.alone
async def test_a_lock_that_a_whole_batch_waits_for_is_not_waited_for_by_each_of_its_parts(
    database_url,
):
    """The process's own lock, for one: an open transaction of a taker has it."""
    async with world(database_url, lanes=1, lock_timeout_seconds=0.1, retry_seconds=0.3) as on:
        with (
            psycopg.connect(database_url) as foreign,
            psycopg.connect(database_url, autocommit=True) as database,
        ):
            tokens = [insert_running_run(database, on.process_id, f"t{n}") for n in range(64)]
            held = on.proxy.next_commit("hold")
            first = on.tasks.start(put(on.saver, "first", 1, ["v"]), name="first")
            await held.reached.wait()
            all_writes = []
            for number, token in enumerate(tokens):
                with on.saver.run(token) as writes:
                    await put(on.saver, f"t{number}", 1, ["v"])
                    all_writes.append(writes)
            foreign.execute("SELECT pg_advisory_xact_lock(%s)", (process_key(on.process_id),))
            held.release.set()
            await first
            started = perf_counter()
            results = await asyncio.gather(
                *[writes.committed() for writes in all_writes], return_exceptions=True
            )
            seconds = perf_counter() - started
            foreign.rollback()
        print(f"64 writes told after {seconds:.1f} s, one wait is 0.1 s")
        assert all(isinstance(result, Unavailable) for result in results)
        assert seconds < 3.0


async def test_a_deadlock_with_a_foreign_transaction_is_repeated(database_url):
    """The writer holds one row and waits for another; the foreign transaction the other way round.
    The server ends one of the two: whoever waits for a second."""
    async with world(database_url, lanes=1, lock_timeout_seconds=20.0) as on:
        first, second = ("d1", identity(1)), ("d2", identity(1))
        insert = (
            "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint) VALUES (%s, %s, '{}')"
        )
        with (
            psycopg.connect(database_url) as foreign,
            psycopg.connect(database_url, autocommit=True) as database,
        ):
            foreign.execute("SET deadlock_timeout = '60s'")
            foreign.execute(insert, second)
            held = on.proxy.next_commit("hold")
            on.tasks.start(on.run("first", steps=1), name="first")
            await held.reached.wait()
            writing = [
                on.tasks.start(
                    on.ledger.put(on.saver, thread_id, 1, ["v"]), name=f"write-{thread_id}"
                )
                for thread_id, _ in (first, second)
            ]
            await eventually(lambda: on.writer.figures().operations >= 3)
            held.release.set()
            # In one batch: d1 is inserted, d2 waits for the foreign transaction.
            await eventually(lambda: rows_waited_for(database))
            # Its session waits longer before it looks for a deadlock, so the writer is the victim.
            await asyncio.to_thread(foreign.execute, insert, first)
            foreign.rollback()
            await asyncio.gather(*writing)
        # Once more if the repeated batch has taken d1 before the foreign transaction woke up.
        assert 1 <= [flush.outcome for flush in on.flushes].count("retried") <= 3
        await on.over()
        on.ledger.acknowledge("d1", [1])
        on.ledger.acknowledge("d2", [1])
        assert on.failures == []
        assert on.problems() == []


async def test_waiters_that_are_cancelled_at_random_take_nothing_with_them(database_url):
    chance = random.Random(5)
    async with world(
        database_url, isolation="repeatable read", max_queued_operations=20, large_value_bytes=2048
    ) as on:
        told: dict[int, asyncio.Task[None]] = {}
        for number in range(300):
            value = "x" * 4000 if chance.random() < 0.1 else "v"
            told[number] = on.tasks.start(
                on.ledger.put(on.saver, f"t{number}", 1, [value]), name="put"
            )
            if chance.random() < 0.4:
                victim = told[chance.randrange(number + 1)]
                asyncio.get_running_loop().call_later(chance.uniform(0, 0.02), victim.cancel)
            if number in (100, 200):
                on.proxy.cut()
            if number % 10 == 0:
                await asyncio.sleep(0)
        await on.over()
        for number, task in told.items():
            if not task.cancelled():
                assert task.exception() is None
                on.ledger.acknowledge(f"t{number}", [1])
        assert 0 < sum(task.cancelled() for task in told.values()) < 250
        assert on.problems() == []
        figures = on.writer.figures()
        assert (figures.operations, figures.bytes, figures.waiting) == (0, 0, 0)


# It has a bound on time.
@pytest.mark.alone
@pytest.mark.parametrize("fault", ["none", "cut", "silent"])
async def test_draining_under_load_keeps_what_was_acknowledged(database_url, fault):
    """Runs go on writing while the writer stops; nobody is left waiting."""
    async with world(database_url, drain_seconds=1.0) as on:
        on.load(12, steps=60)
        await eventually(lambda: len(on.ledger.checkpoints) > 100)
        if fault == "cut":
            on.proxy.cut()
        elif fault == "silent":
            on.proxy.stall()
        started = perf_counter()
        await on.writer.stop()
        seconds = perf_counter() - started
        on.proxy.flow()
        await on.over(seconds=SOON)
        print(f"{fault}: drained in {seconds:.2f} s, {len(on.failures)} runs told that they failed")
        assert seconds < 3.0
        assert on.problems() == []


async def test_a_retry_after_the_end_was_committed_leaves_the_next_run_alone(database_url):
    """The answer to rows and end is lost; before the retry another run has the thread, and has
    replaced a row of the same key."""
    async with world(database_url, lanes=1, linger_seconds=60.0) as on:
        with psycopg.connect(database_url, autocommit=True) as database:
            token = insert_running_run(database, on.process_id, "t")
            with on.saver.run(token) as writes:
                await put(on.saver, "t", 1, ["v"])
                await on.saver.aput_writes(config_of("t", 1), [("__interrupt__", "mine")], "task")
                lost = on.proxy.next_commit("hold_answer")
                ending = on.tasks.start(
                    on.queue.end_if_owned(token, "t", DONE, run=writes),
                    name="end",
                )
                await lost.reached.wait()
                database.execute("UPDATE checkpoint_writes SET blob = 'theirs', type = 'bytes'")
                lost.release.set()
                await ending
                await writes.committed()
            assert "retried" in [flush.outcome for flush in on.flushes]
            row = database.execute("SELECT blob FROM checkpoint_writes").fetchone()
            assert row == (b"theirs",)
            assert database.execute("SELECT status FROM runs").fetchone() == ("success",)
