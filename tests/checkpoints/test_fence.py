"""The fence: of a run that was taken from its process, no later row is written, in any order of
events; and the forms that look right and are not do write one.

Where a flush or a take-over waits is seen in ``pg_locks``; what lies between two statements of a
flush is held open by a proxy.
"""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, get_args
from uuid import UUID

import psycopg
import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from headrace.auth.row_scope import scoped_statements
from headrace.checkpoints.fence import RunToken, process_key
from headrace.checkpoints.saver import GroupCommitSaver
from headrace.checkpoints.writer import Writer
from headrace.db.functions import definitions_in
from headrace.db.pool import SharedPool
from headrace.errors import LeaseLost
from headrace.lifecycle import Tasks
from headrace.queue.queue import Queue
from headrace.queue.rows import Proof
from headrace.queue.takeover import failures_of_suspect
from tests.support.chains import CHANNEL, config_of, put
from tests.support.database import open_pool
from tests.support.engine import open_writer
from tests.support.proxy import Proxy, proxied
from tests.support.runs import (
    DONE,
    OTHER_TIMELINE,
    default_isolation,
    expire_process,
    insert_running_run,
    present_timeline,
    register_process,
    run_request,
    set_timeline,
)
from tests.support.waiting import eventually

GONE = {"error": "ProcessLost", "message": "gone"}

ISOLATIONS = ("read committed", "repeatable read")

#: psycopg prepares a statement once it has seen it so often; earlier flushes are unprepared.
PREPARED = {"prepared": "on", "plain": "off"}


@dataclass
class Scene:
    """A process with a run, another one that takes it, and what lies between them."""

    database: psycopg.Connection[Any]
    pool: SharedPool
    writer: Writer
    saver: GroupCommitSaver
    taker: Queue
    proxy: Proxy
    tasks: Tasks = field(default_factory=Tasks)

    def process(self):
        return register_process(self.database)

    def run(self, process_id, thread_id: str) -> RunToken:
        return insert_running_run(self.database, process_id, thread_id)

    async def write(self, token: RunToken | None, thread_id: str, number: int, value="v") -> None:
        """One checkpoint of a run, returned from after its commit."""
        with self.saver.run(token, durability="sync"):
            await put(self.saver, thread_id, number, [value])

    def writing(self, token: RunToken | None, thread_id: str, number: int) -> asyncio.Task[None]:
        return self.tasks.start(self.write(token, thread_id, number), name=f"write-{thread_id}")

    def taking(self) -> asyncio.Task[Any]:
        return self.tasks.start(
            self.taker.takeover.take_runs_of_lost_processes(GONE, max_failures=1), name="taking"
        )

    def taking_from(self, process_id: UUID, proof: str) -> asyncio.Task[Any]:
        """Its lease has expired, or its end is proven and its lease has not expired."""
        if proof == "lease":
            with psycopg.connect(self.database.info.dsn, autocommit=True) as other:
                expire_process(other, process_id)
            return self.taking()
        dead = {process_id: 0.0}
        return self.tasks.start(
            self.taker.takeover.take_runs_of_dead_processes(dead, GONE, max_failures=1),
            name="taking",
        )

    def checkpoints(self, thread_id: str) -> list[int]:
        found = self.database.execute(
            "SELECT checkpoint_id::int FROM checkpoints WHERE thread_id = %s"
            " UNION SELECT version::int FROM checkpoint_blobs WHERE thread_id = %s ORDER BY 1",
            (thread_id, thread_id),
        )
        return [row[0] for row in found]

    def waiting_for_lock(self, process_id) -> list[str]:
        """The modes in which somebody waits for the process's lock."""
        found = self.database.execute(
            "SELECT mode FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND ((classid::bigint << 32) | objid::bigint) = %s",
            (process_key(process_id),),
        )
        return [row[0] for row in found]

    async def until_waiting(self, process_id, mode: str) -> None:
        await eventually(lambda: mode in self.waiting_for_lock(process_id))


@asynccontextmanager
async def scene(
    url: str,
    *,
    isolation: str = "read committed",
    statements: str = "on",
    taker_patience: float = 5.0,
    **changes: Any,
):
    """The writer behind a proxy, the taker beside it."""
    with (
        default_isolation(url, isolation),
        psycopg.connect(url, autocommit=True) as database,
    ):
        database.execute("SET default_transaction_isolation = 'read committed'")
        async with (
            proxied(url) as proxy,
            open_pool(proxy.url, pool_min=2, pool_max=4, prepared_statements=statements) as pool,
            open_pool(url, pool_min=1, pool_max=4) as other,
            open_writer(pool, **{"lanes": 1, **changes}) as writer,
            open_writer(other) as others_writer,
        ):
            yield Scene(
                database,
                pool,
                writer,
                GroupCommitSaver(pool, writer, observe=lambda operation, seconds: None),
                Queue(other, others_writer, lock_timeout_seconds=taker_patience),
                proxy,
            )


@pytest.fixture(params=ISOLATIONS)
def isolation(request) -> str:
    return str(request.param)


@pytest.fixture(params=PREPARED)
def statements(request) -> str:
    return PREPARED[request.param]


async def warm_up(on: Scene) -> None:
    """Use each statement often enough that it is prepared where that is allowed."""
    process_id = on.process()
    token = on.run(process_id, "warm")
    for number in range(1, 8):
        await on.write(token, "warm", number)


@pytest.mark.parametrize("proof", get_args(Proof))
async def test_a_flush_after_the_take_over_writes_nothing_of_the_run(
    database_url, isolation, statements, proof
):
    async with scene(database_url, isolation=isolation, statements=statements) as on:
        await warm_up(on)
        process_id, living = on.process(), on.process()
        stale, token = on.run(process_id, "stale"), on.run(living, "living")
        await on.write(stale, "stale", 1)
        taken = await on.taking_from(process_id, proof)
        assert [run.run_id for run in taken] == [stale.run_id]
        # All in one flush, behind one that is held: a stale run, a living one, and no run.
        held = on.proxy.next_commit("hold")
        first = on.writing(None, "first", 1)
        await held.reached.wait()
        late, other, outside = (
            on.writing(stale, "stale", 2),
            on.writing(token, "living", 1),
            on.writing(None, "outside", 1),
        )
        await eventually(lambda: on.writer.figures().operations == 4)
        held.release.set()
        await asyncio.gather(first, other, outside)
        with pytest.raises(LeaseLost):
            await late
        assert on.checkpoints("stale") == [1]
        assert (on.checkpoints("living"), on.checkpoints("outside")) == ([1], [1])


async def test_a_process_that_the_server_has_left_behind_writes_nothing(
    database_url, isolation, statements
):
    """It has registered on another timeline: commits that it counts on may be gone."""
    async with scene(database_url, isolation=isolation, statements=statements) as on:
        await warm_up(on)
        process_id, living = on.process(), on.process()
        left, token = on.run(process_id, "left"), on.run(living, "living")
        set_timeline(on.database, living, None)
        set_timeline(on.database, process_id, present_timeline(on.database))
        await on.write(left, "left", 1)
        set_timeline(on.database, process_id, OTHER_TIMELINE)
        held = on.proxy.next_commit("hold")
        first = on.writing(None, "first", 1)
        await held.reached.wait()
        late, other = on.writing(left, "left", 2), on.writing(token, "living", 1)
        await eventually(lambda: on.writer.figures().operations == 3)
        held.release.set()
        await asyncio.gather(first, other)
        with pytest.raises(LeaseLost):
            await late
        assert (on.checkpoints("left"), on.checkpoints("living")) == ([1], [1])


async def test_a_flush_that_waits_for_the_lock_during_the_take_over_writes_nothing(
    database_url, isolation, statements
):
    """The flush has begun before the take-over commits, which a snapshot would not see."""
    async with scene(database_url, isolation=isolation, statements=statements) as on:
        await warm_up(on)
        process_id, living = on.process(), on.process()
        stale, token = on.run(process_id, "stale"), on.run(living, "living")
        expire_process(on.database, process_id)
        take = scoped_statements("headrace.queue", "queue.sql")
        values = {
            "process_id": process_id,
            "key": process_key(process_id),
            "error": psycopg.types.json.Jsonb(GONE),
            "max_failures": 1,
            "suspect_failures": failures_of_suspect(1),
            "by_clock": True,
        }
        with on.database.transaction():
            for name in (
                "lock_process",
                "mark_process_lost_if_expired",
                "lock_threads_of_lost_runs",
                "take_lost_runs",
            ):
                on.database.execute(take[name], values)
            held = on.proxy.next_commit("hold")
            first = on.writing(None, "first", 1)
            await held.reached.wait()
            late, other = on.writing(stale, "stale", 1), on.writing(token, "living", 1)
            await eventually(lambda: on.writer.figures().operations == 3)
            held.release.set()
            await on.until_waiting(process_id, "ShareLock")
            assert not late.done()
        await asyncio.gather(first, other)
        with pytest.raises(LeaseLost):
            await late
        assert (on.checkpoints("stale"), on.checkpoints("living")) == ([], [1])


@pytest.mark.parametrize("proof", get_args(Proof))
async def test_the_take_over_waits_for_a_flush_in_flight(
    database_url, isolation, statements, proof
):
    """What the flush writes is then there before the run goes, and not after."""
    async with scene(database_url, isolation=isolation, statements=statements) as on:
        await warm_up(on)
        process_id = on.process()
        token = on.run(process_id, "t")
        # The flush has checked its tokens, and waits for the table.
        with on.database.transaction():
            on.database.execute("LOCK TABLE checkpoint_blobs IN EXCLUSIVE MODE")
            in_time = on.writing(token, "t", 1)
            await eventually(lambda: waits_for_table(on.database, "checkpoint_blobs"))
            late = on.writing(token, "t", 2)
            taking = on.taking_from(process_id, proof)
            await on.until_waiting(process_id, "ExclusiveLock")
            assert not taking.done()
        await in_time
        assert [run.run_id for run in await taking] == [token.run_id]
        with pytest.raises(LeaseLost):
            await late
        assert on.checkpoints("t") == [1]


def waits_for_table(database: psycopg.Connection[Any], table: str) -> bool:
    """Whether a session waits for a lock of the table."""
    found = database.execute(
        "SELECT FROM pg_locks WHERE NOT granted AND relation = %s::regclass", (table,)
    )
    return found.fetchone() is not None


async def test_an_end_after_the_take_over_is_refused_with_all_that_comes_with_it(
    database_url, isolation
):
    async with scene(database_url, isolation=isolation, linger_seconds=60.0) as on:
        process_id = on.process()
        token = on.run(process_id, "t")
        own = Queue(on.pool, on.writer)
        with on.saver.run(token) as writes:
            await put(on.saver, "t", 1, ["v"])
            expire_process(on.database, process_id)
            await on.taking()
            with pytest.raises(LeaseLost):
                await own.end_if_owned(token, "t", DONE, run=writes)
        assert on.checkpoints("t") == []
        row = on.database.execute("SELECT status, error->>'error' FROM runs").fetchone()
        assert row == ("error", "ProcessLost")


@pytest.mark.parametrize("wrong", ["attempt", "process", "run", "ended"])
async def test_a_token_that_is_not_the_runs_writes_nothing(database_url, wrong):
    """A process that comes back under a new id has no right to the runs of its old one."""
    async with scene(database_url) as on:
        process_id, again = on.process(), on.process()
        token = on.run(process_id, "t")
        if wrong == "ended":
            await Queue(on.pool, on.writer).end_if_owned(token, "t", DONE)
        forged = {
            "attempt": RunToken(token.run_id, 2, process_id),
            "process": RunToken(token.run_id, 1, again),
            "run": RunToken(again, 1, process_id),
            "ended": token,
        }[wrong]
        with pytest.raises(LeaseLost):
            await on.write(forged, "t", 1)
        assert on.checkpoints("t") == []


@pytest.mark.parametrize("gone", ["lost", "removed"])
async def test_a_process_that_comes_back_under_a_new_id_writes_nothing_for_its_old_runs(
    database_url, gone
):
    async with scene(database_url) as on:
        old = on.process()
        token = on.run(old, "t")
        if gone == "lost":
            on.database.execute("UPDATE processes SET lost = true WHERE process_id = %s", (old,))
        else:
            on.database.execute("DELETE FROM processes WHERE process_id = %s", (old,))
        new = on.process()
        own = on.run(new, "own")
        with pytest.raises(LeaseLost):
            await on.write(token, "t", 1)
        await on.write(own, "own", 1)
        assert (on.checkpoints("t"), on.checkpoints("own")) == ([], [1])


async def test_a_stale_row_does_not_stand_for_one_of_the_run_that_has_the_thread_now(database_url):
    """Both resume from one checkpoint, so their tasks have the same ids; both in one flush."""
    async with scene(database_url, linger_seconds=60.0) as on:
        old, new = on.process(), on.process()
        stale = on.run(old, "t")
        expire_process(on.database, old)
        await on.taking()
        on.database.execute("UPDATE threads SET status = 'idle' WHERE thread_id = 't'")
        on.database.execute("DELETE FROM runs")
        on.database.execute("DELETE FROM threads")
        token = on.run(new, "t")
        with on.saver.run(stale) as lost:
            await on.saver.aput_writes(config_of("t", 1), [(CHANNEL, "stale")], "task")
            await put(on.saver, "t", 2, ["stale"])
        with on.saver.run(token) as writes:
            await on.saver.aput_writes(config_of("t", 1), [(CHANNEL, "mine")], "task")
            await put(on.saver, "t", 2, ["mine"])
            await writes.committed()
        with pytest.raises(LeaseLost):
            await lost.committed()
        load = JsonPlusSerializer().loads_typed
        (write,) = on.database.execute("SELECT type, blob FROM checkpoint_writes").fetchall()
        (blob,) = on.database.execute("SELECT type, blob FROM checkpoint_blobs").fetchall()
        assert (load(write), load(blob)) == ("mine", ["mine"])


_STUCK_CLIENT = """
import asyncio, sys
from uuid import UUID
from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.saver import GroupCommitSaver
from tests.support.chains import put
from tests.support.database import open_pool
from tests.support.engine import open_writer

async def main(url, run_id, process_id):
    async with open_pool(url, pool_min=1, pool_max=1) as pool, open_writer(pool) as writer:
        saver = GroupCommitSaver(pool, writer, observe=lambda operation, seconds: None)
        with saver.run(RunToken(UUID(run_id), 1, UUID(process_id)), durability="sync"):
            await put(saver, "t", 1, ["v"])
            print("committed", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


# It has a bound on time.
@pytest.mark.alone
@pytest.mark.parametrize("proof", get_args(Proof))
async def test_a_flush_of_a_stopped_client_is_ended_by_the_taker_within_its_bound(
    database_url, proof
):
    """The client is a real process under SIGSTOP, half-way through its flush. Or it is dead, and a
    proxy keeps its connection open.
    """
    async with scene(database_url, taker_patience=0.5, isolation="repeatable read") as on:
        process_id = on.process()
        token = on.run(process_id, "t")
        held = on.proxy.next_commit("hold", locked=True)
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _STUCK_CLIENT),
            *(on.proxy.url, str(token.run_id), str(process_id)),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(30):
                await held.reached.wait()
            client.send_signal(signal.SIGSTOP)
            started = perf_counter()
            taken = await on.taking_from(process_id, proof)
            seconds = perf_counter() - started
            assert [run.run_id for run in taken] == [token.run_id]
            assert on.checkpoints("t") == []
            client.send_signal(signal.SIGCONT)
            held.release.set()
            output, _ = await client.communicate()
        finally:
            if client.returncode is None:
                client.kill()
                await client.wait()
        print(f"taken {seconds:.2f} s after the client was stopped; the taker waits 0.5 s")
        assert seconds < 2.0
        assert b"committed" not in output, "it must not believe that it has written"
        assert on.checkpoints("t") == []


async def test_a_flush_of_a_living_process_is_not_ended_by_a_taker(database_url):
    async with scene(database_url, taker_patience=0.3, isolation="repeatable read") as on:
        process_id = on.process()
        token = on.run(process_id, "t")
        held = on.proxy.next_commit("hold", locked=True)
        writing = on.writing(token, "t", 1)
        await held.reached.wait()
        expire_process(on.database, process_id)
        taking = on.taking()
        await on.until_waiting(process_id, "ExclusiveLock")
        # It renews while the taker waits for its lock.
        on.database.execute("UPDATE processes SET heartbeat_at = clock_timestamp()")
        await eventually(lambda: not on.waiting_for_lock(process_id))
        held.release.set()
        await writing
        assert await taking == []
        assert on.checkpoints("t") == [1]
        await on.write(token, "t", 2)


async def test_a_taker_passes_over_whose_lock_it_does_not_get(database_url):
    async with scene(database_url, taker_patience=0.3, isolation="repeatable read") as on:
        living, gone = on.process(), on.process()
        token, lost = on.run(living, "t"), on.run(gone, "u")
        held = on.proxy.next_commit("hold", locked=True)
        writing = on.writing(token, "t", 1)
        await held.reached.wait()
        expire_process(on.database, living)
        expire_process(on.database, gone)
        taking = on.taking()
        await on.until_waiting(living, "ExclusiveLock")
        on.database.execute(
            "UPDATE processes SET heartbeat_at = clock_timestamp() WHERE process_id = %s", (living,)
        )
        assert [run.run_id for run in await taking] == [lost.run_id]
        held.release.set()
        await writing
        assert on.checkpoints("t") == [1]


#: The wrong forms of the flush's function: what stands in its text, and what stands there instead.
WRONG = {
    "without a look at the isolation level": ("RAISE 'a flush needs", "RAISE DEBUG 'no matter"),
    "lock and look in one statement": (
        "LIMIT 1\n    ) AS held ON true;",
        "AND (SELECT count(pg_advisory_xact_lock_shared(key)) FROM unnest(process_keys) AS key) > 0"
        " LIMIT 1) AS held ON true;",
    ),
}
_LOCKS = "PERFORM pg_advisory_xact_lock_shared(process_key);"


def replace_function(on: Scene, form: str | None) -> None:
    """Give the flush's function a wrong form."""
    if form is None:
        return
    right, wrong = WRONG[form]
    text = definitions_in("public")["headrace_flush_2"]
    assert text.count(right) == 1
    text = text.replace(right, wrong)
    if "pg_advisory" in wrong:
        assert text.count(_LOCKS) == 1
        text = text.replace(_LOCKS, "NULL;")
    on.database.execute(text.replace(" USING ERRCODE = 'HR001'", "").encode())


@pytest.mark.parametrize(
    ("form", "default", "written"),
    [
        pytest.param(None, "repeatable read", [], id="the engine's form"),
        pytest.param(None, "read committed", [], id="the engine's form, without BEGIN"),
        *[
            pytest.param(form, default, [1], id=form)
            for form, default in zip(WRONG, ("repeatable read", "read committed"), strict=True)
        ],
    ],
)
async def test_only_the_fences_own_form_holds(database_url, form, default, written):
    """The flush waits for the lock while the take-over commits. The two wrong forms then write a
    stale row: if they ceased to, the fence would no longer be needed as it is."""
    async with scene(database_url, isolation=default) as on:
        process_id = on.process()
        token = on.run(process_id, "t")
        replace_function(on, form)
        with on.database.transaction():
            on.database.execute("SELECT pg_advisory_xact_lock(%s)", (process_key(process_id),))
            on.database.execute("UPDATE processes SET lost = true")
            on.database.execute("UPDATE threads SET status = 'error', running_run_id = NULL")
            on.database.execute(
                "UPDATE runs SET status = 'error', ended_at = now() WHERE run_id = %s",
                (token.run_id,),
            )
            flushing = on.writing(token, "t", 1)
            await on.until_waiting(process_id, "ShareLock")
        if written:
            await flushing
        else:
            with pytest.raises(LeaseLost):
                await flushing
        assert on.checkpoints("t") == written


async def test_lock_and_insert_in_one_statement_write_a_stale_row(database_url):
    """The shortest of the wrong forms: the statement looks at what was there before the lock."""
    async with scene(database_url) as on:
        process_id = on.process()
        token = on.run(process_id, "t")
        inserting = (
            "WITH fence AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(%s))"
            " INSERT INTO checkpoint_blobs (thread_id, channel, version, type)"
            " SELECT thread_id, 'messages', '1', 'empty'"
            " FROM runs JOIN processes USING (process_id)"
            " WHERE run_id = %s AND status = 'running' AND NOT lost"
            " AND (SELECT count(*) FROM fence) >= 0"
        )

        async def insert() -> None:
            async with on.pool.connection() as connection:
                await connection.execute(inserting, (process_key(process_id), token.run_id))

        with on.database.transaction():
            on.database.execute("SELECT pg_advisory_xact_lock(%s)", (process_key(process_id),))
            on.database.execute("UPDATE processes SET lost = true")
            stale = on.tasks.start(insert(), name="stale-insert")
            await on.until_waiting(process_id, "ShareLock")
        await stale
        assert on.checkpoints("t") == [1]


async def test_a_start_has_no_token_and_a_lost_processs_start_is_taken_like_any_run(database_url):
    """A start that commits after its process was judged is a run of a lost process: swept."""
    async with scene(database_url) as on:
        process_id = on.process()
        on.database.execute("UPDATE processes SET lost = true")
        asked = run_request("t")
        await Queue(on.pool, on.writer).start_run_if_free(asked, process_id)
        assert [run.run_id for run in await on.taking()] == [asked.run_id]
