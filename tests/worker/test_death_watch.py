"""A process that lives gives back the runs of one that is dead, in whatever state it is itself."""

import asyncio
from contextlib import asynccontextmanager

import psycopg
import psycopg.types.json

from headrace.worker.deaths import Deaths, life_place
from tests.support.database import PrivatePostgres
from tests.support.runs import register_process, run_request
from tests.support.waiting import eventually
from tests.support.workers import KWARGS, open_worker

#: A dead process is not waited for so long.
LEASE = {"lease_seconds": 60.0, "heartbeat_seconds": 1.0}


def executed_by(database, process_id, *names):
    """Runs that this process executes."""
    for name in names:
        asked = run_request(name)
        database.execute(
            "INSERT INTO threads (thread_id, tenant, owner, status, running_run_id)"
            " VALUES (%s, 'default', 'anonymous', 'busy', %s)",
            (name, asked.run_id),
        )
        database.execute(
            "INSERT INTO runs (run_id, thread_id, assistant_id, graph_id, tenant, owner, status,"
            " attempt, process_id, multitask_strategy, metadata, kwargs, started_at)"
            " VALUES (%s, %s, %s, 'agent', 'default', 'anonymous', 'running', 1, %s, 'enqueue',"
            " '{}', %s, now())",
            (
                asked.run_id,
                name,
                asked.assistant_id,
                process_id,
                psycopg.types.json.Jsonb({**KWARGS, "input": {"seconds": 0.05}}),
            ),
        )


def row(database, name="t"):
    return database.execute(
        "SELECT status, attempt, failures FROM runs WHERE thread_id = %s", (name,)
    ).fetchone()


class Master:
    """What the master and the dead process do with the memory that all share."""

    def __init__(self, database):
        self.database = database
        self.deaths = Deaths()
        place, dead = self.deaths.free_place([]), self.deaths.free_place([0])
        assert place is not None
        assert dead is not None
        self.place, self.dead = place, dead

    def lose_one(self, *names):
        """A process with these runs dies, with a lease that has just been renewed."""
        process_id = register_process(self.database)
        executed_by(self.database, process_id, *names)
        self.dead.note(process_id)
        self.dead.end()
        return process_id


@asynccontextmanager
async def sibling(master, url, **changes):
    """The worker of a living process of this master."""
    before = life_place.set(master.place)
    try:
        async with open_worker(url, **{**LEASE, **changes}) as worker:
            yield worker
    finally:
        life_place.reset(before)


async def test_it_goes_on_though_nobody_may_judge_leases_yet(database, database_url):
    master = Master(database)
    async with sibling(master, database_url) as worker:
        process_id = master.lose_one("t")
        await eventually(lambda: row(database) == ("success", 2, 1))
        assert not worker._heartbeat.judges_others
        lost = database.execute("SELECT lost FROM processes WHERE process_id = %s", (process_id,))
        assert lost.fetchone() == (True,)


async def test_a_process_that_starts_looks_before_it_takes_other_runs(database, database_url):
    """With one process, nobody else can."""
    master = Master(database)
    master.lose_one("t")
    async with sibling(master, database_url):
        # It is taken when the worker has started.
        assert row(database)[2] == 1
        await eventually(lambda: row(database) == ("success", 2, 1))


async def test_a_process_that_drains_gives_them_back_to_others(database, database_url):
    master = Master(database)
    async with sibling(master, database_url) as worker:
        worker.refuse_new()
        master.lose_one("t")
        await eventually(lambda: row(database) == ("pending", 1, 1))


async def test_a_process_without_a_lease_gives_them_back(database, database_url):
    master = Master(database)
    async with sibling(master, database_url) as worker:
        # It comes back under a new id within a second.
        worker._heartbeat._lose("test")
        master.lose_one("t")
        await eventually(lambda: row(database)[2] == 1)


async def test_a_process_that_executes_no_runs_gives_them_back(database, database_url):
    master = Master(database)
    async with sibling(master, database_url, enabled=False):
        master.lose_one("t")
        await eventually(lambda: row(database) == ("pending", 1, 1))


async def test_two_that_die_at_once_are_both_told(database, database_url):
    master = Master(database)
    async with sibling(master, database_url, apart_seconds=0):
        master.lose_one("a")
        master.lose_one("b")
        await eventually(lambda: row(database, "a") == row(database, "b") == ("success", 2, 1))


async def test_a_start_that_arrives_after_the_end_is_found(database, database_url):
    master = Master(database)
    async with sibling(master, database_url):
        process_id = master.lose_one()
        lost = "SELECT lost FROM processes WHERE process_id = %s"
        await eventually(lambda: database.execute(lost, (process_id,)).fetchone() == (True,))
        executed_by(database, process_id, "late")
        await eventually(lambda: row(database, "late") == ("success", 2, 1))


async def test_it_looks_again_when_the_database_is_back(private_postgres: PrivatePostgres):
    with psycopg.connect(private_postgres.url, autocommit=True) as database:
        master = Master(database)
        process_id = register_process(database)
        executed_by(database, process_id, "t")
        master.dead.note(process_id)
    async with sibling(master, private_postgres.url):
        await asyncio.to_thread(private_postgres.stop)
        master.dead.end()
        await asyncio.sleep(1.5)
        await asyncio.to_thread(private_postgres.start)
        with psycopg.connect(private_postgres.url, autocommit=True) as database:
            await eventually(lambda: row(database) == ("success", 2, 1), seconds=20)


async def test_its_own_id_is_noted_and_it_leaves_in_good_order(database, database_url):
    master = Master(database)
    async with sibling(master, database_url) as worker:
        own = worker._heartbeat.process_id
        worker._heartbeat._lose("test")
        await eventually(lambda: worker._heartbeat.process_id not in (None, own))
        again = worker._heartbeat.process_id
        assert master.place._ids() == [again, own]
    master.place.end()
    assert master.deaths.total == 0
