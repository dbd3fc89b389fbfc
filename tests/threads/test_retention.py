"""Threads whose time is over: deleted or reduced, by any number of sweepers, never under a run."""

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager
from uuid import UUID

import psycopg
import pytest

from headrace.errors import StartupRefusal
from headrace.graphs.manifest import read_manifest
from headrace.graphs.persistence_entries import StoreTTL, TtlEntry
from headrace.retention_settings import RetentionSettings
from headrace.server.resources import Entries
from headrace.threads.retention import RetentionSweeper
from tests.support.graphs.graphs import agent, stepwise
from tests.support.pair import open_states
from tests.support.runs import insert_running_run, register_process
from tests.support.waiting import eventually

HELLO = {"messages": [("user", "hi")]}


class Sweeping:
    """Two processes, their sweepers, and what those have counted."""

    def __init__(self, states):
        self.states = states
        self.counted: Counter[str] = Counter()
        self.graph = states[0].graphs

    def sweeper(self, number=0, **entry):
        state = self.states[number]
        return RetentionSweeper(
            state.pool,
            state.thread_removal,
            TtlEntry(**entry),
            count=lambda action, count: self.counted.update({action: count}),
        )

    async def converse(self, graph_id, thread_id, turns=3):
        for _ in range(turns):
            await self.graph.get(graph_id).ainvoke(
                HELLO, {"configurable": {"thread_id": thread_id}}
            )

    async def said(self, graph_id, thread_id):
        state = await self.graph.get(graph_id).aget_state(
            {"configurable": {"thread_id": thread_id}}
        )
        return len(state.values.get("messages", []))


@asynccontextmanager
async def sweeping(url):
    async with open_states(url, {"agent": agent, "stepwise": stepwise}) as states:
        yield Sweeping(states)


def make(database, thread_id, *, minutes_ago=0.0, **columns):
    """A thread that was last used so long ago."""
    names = "".join(f", {name}" for name in columns)
    database.execute(
        f"INSERT INTO threads (thread_id, created_at, updated_at{names})"
        " VALUES (%(id)s, now() - make_interval(secs => %(ago)s * 60),"
        " now() - make_interval(secs => %(ago)s * 60)"
        f"{''.join(f', %({name})s' for name in columns)})",
        {"id": thread_id, "ago": minutes_ago, **columns},
    )


def ids(database, table="threads"):
    return {row[0] for row in database.execute(f"SELECT thread_id FROM {table}")}


def checkpoints(database, thread_id):
    row = database.execute(
        "SELECT count(*) FROM checkpoints WHERE thread_id = %s", (thread_id,)
    ).fetchone()
    return row[0]


async def test_the_default_reaches_what_is_old_and_leaves_what_is_used(database, database_url):
    make(database, "old", minutes_ago=20)
    make(database, "own", minutes_ago=20, ttl_minutes=60.0, ttl_strategy="delete")
    make(database, "new", minutes_ago=1)
    make(database, "temporary", minutes_ago=20, temporary=True)
    make(database, "used", minutes_ago=20)
    database.execute("UPDATE threads SET updated_at = now() WHERE thread_id = 'used'")
    make(database, "stranger", minutes_ago=20, tenant="other")
    async with sweeping(database_url) as run:
        await run.converse("agent", "old")
        assert ids(database, "checkpoints") == {"old"}
        swept = await run.sweeper(default_ttl=10).sweep()
        assert (swept.looked_at, swept.deleted) == (4, 2)
        assert ids(database) == {"own", "new", "temporary", "used"}
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
            assert ids(database, table) == set()
        assert run.counted == {"deleted": 2}
        # Neither is looked at before its time.
        assert (await run.sweeper(default_ttl=10).sweep()).looked_at == 0
        database.execute("UPDATE threads SET updated_at = now() - interval '11 minutes'")
        database.execute("UPDATE threads SET sweep_at = now() WHERE thread_id = 'used'")
        await run.sweeper(default_ttl=10).sweep()
        assert ids(database) == {"own", "new", "temporary"}


async def test_a_thread_with_its_own_time_goes_by_that(database, database_url):
    for thread_id, ago, ttl in (("over", 3, 2.0), ("not-yet", 1, 2.0)):
        make(database, thread_id, minutes_ago=ago, ttl_minutes=ttl, ttl_strategy="delete")
    database.execute("UPDATE threads SET sweep_at = now()")
    async with sweeping(database_url) as run:
        swept = await run.sweeper().sweep()
    assert (swept.looked_at, swept.deleted) == (2, 1)
    assert ids(database) == {"not-yet"}
    row = database.execute("SELECT sweep_at = updated_at + interval '2 minutes' FROM threads")
    assert row.fetchone() == (True,)


async def test_a_thread_without_any_time_is_not_looked_at_again(database, database_url):
    make(database, "kept", minutes_ago=99)
    database.execute("UPDATE threads SET sweep_at = now()")
    async with sweeping(database_url) as run:
        assert (await run.sweeper().sweep()).looked_at == 1
        assert (await run.sweeper().sweep()).looked_at == 0
    assert ids(database) == {"kept"}


async def test_a_busy_thread_is_left_to_its_run(database, database_url):
    insert_running_run(database, register_process(database), "busy")
    database.execute(
        "UPDATE threads SET ttl_minutes = 1, ttl_strategy = 'delete', sweep_at = now(),"
        " updated_at = now() - interval '1 hour'"
    )
    async with sweeping(database_url) as run:
        swept = await run.sweeper().sweep()
    assert (swept.looked_at, swept.deleted) == (1, 0)
    assert database.execute("SELECT sweep_at > now() FROM threads").fetchone() == (True,)


async def test_reduced_threads_go_on_and_stepwise_ones_stay_whole(database, database_url):
    for thread_id in ("plain", "steps"):
        make(database, thread_id, minutes_ago=20)
    async with sweeping(database_url) as run:
        await run.converse("agent", "plain")
        await run.converse("stepwise", "steps")
        before = {name: checkpoints(database, name) for name in ("plain", "steps")}
        sweeper = run.sweeper(default_ttl=10, strategy="keep_latest")
        swept = await sweeper.sweep()
        assert (swept.reduced, swept.left, swept.deleted) == (1, 1, 0)
        assert checkpoints(database, "plain") == 1 < before["plain"]
        assert checkpoints(database, "steps") == before["steps"]
        assert await run.said("agent", "plain") == await run.said("stepwise", "steps") == 6
        await run.converse("agent", "plain", turns=1)
        assert await run.said("agent", "plain") == 8
        # Unused since, it is left alone when it is looked at again.
        database.execute("UPDATE threads SET sweep_at = now() WHERE thread_id = 'plain'")
        swept = await sweeper.sweep()
        assert (swept.looked_at, swept.reduced) == (1, 0)
        database.execute(
            "UPDATE threads SET sweep_at = now(), updated_at = now() - interval '11 minutes',"
            " pruned_at = now() - interval '12 minutes' WHERE thread_id = 'plain'"
        )
        assert (await sweeper.sweep()).reduced == 1
        assert checkpoints(database, "plain") == 1
    assert run.counted == {"reduced": 2, "left": 1}


async def test_reduced_threads_keep_their_newest_run_alone(database, database_url):
    for thread_id in ("agent", "stepwise"):
        make(database, thread_id, minutes_ago=20)
        for number in range(3):
            database.execute(
                "INSERT INTO runs (run_id, thread_id, assistant_id, graph_id, status, ended_at)"
                " VALUES (%s, %s, %s, 'agent', 'success', now())",
                (UUID(int=number + 10 * (thread_id == "agent")), thread_id, UUID(int=1)),
            )
    async with sweeping(database_url) as run:
        await run.converse("agent", "agent")
        await run.converse("stepwise", "stepwise")
        await run.sweeper(default_ttl=10, strategy="keep_latest").sweep()
        kept = database.execute("SELECT run_id FROM runs ORDER BY run_id").fetchall()
        assert kept == [(UUID(int=2),), (UUID(int=12),)]
        assert await run.said("agent", "agent") == await run.said("stepwise", "stepwise") == 6


async def test_several_sweepers_share_the_work_and_keep_to_their_limit(database, database_url):
    for number in range(130):
        make(database, f"t{number}", minutes_ago=20)
    async with sweeping(database_url) as run:
        both = [run.sweeper(number, default_ttl=10, sweep_limit=60) for number in (0, 1)]
        swept = await asyncio.gather(*(one.sweep() for one in both))
        assert all(one.looked_at <= 60 for one in swept)
        assert sum(one.deleted for one in swept) == 130 - len(ids(database))
        while ids(database):
            await asyncio.gather(*(one.sweep() for one in both))
    assert run.counted == {"deleted": 130}


async def test_what_somebody_works_on_is_passed_over(database, database_url):
    for thread_id in ("held", "free"):
        make(database, thread_id, minutes_ago=20, ttl_minutes=1.0, ttl_strategy="delete")
    database.execute("UPDATE threads SET sweep_at = now()")
    async with sweeping(database_url) as run:
        with psycopg.connect(database_url) as other:
            other.execute("SELECT 1 FROM threads WHERE thread_id = 'held' FOR NO KEY UPDATE")
            assert (await run.sweeper().sweep()).deleted == 1
            assert ids(database) == {"held"}
        assert (await run.sweeper().sweep()).deleted == 1


async def test_the_environment_says_how_long_without_a_manifest(
    database, database_url, monkeypatch
):
    make(database, "old", minutes_ago=20)
    monkeypatch.setenv("HEADRACE_RETENTION__THREAD_MINUTES", "10")
    monkeypatch.setenv("HEADRACE_RETENTION__SWEEP_MINUTES", "0.0005")
    async with open_states(database_url, {"agent": agent}, count=1):
        await eventually(lambda: ids(database) == set())


def test_settings_win_over_the_manifest_word_by_word(tmp_path):
    ttl = {"default_ttl": 7, "strategy": "keep_latest", "sweep_limit": 5}
    path = manifest(tmp_path, ttl, store={"ttl": {"default_ttl": 3, "refresh_on_read": False}})
    said = read_manifest(path)

    def holds(read, **settings):
        return Entries.of(read, RetentionSettings(**settings))

    assert holds(said).thread_ttl == TtlEntry(**ttl)
    assert holds(said, thread_minutes=9).thread_ttl == TtlEntry(**{**ttl, "default_ttl": 9})
    assert holds(said, thread_strategy="delete").thread_ttl.strategy == "delete"
    assert holds(said, sweep_minutes=1, sweep_limit=2).thread_ttl == TtlEntry(
        default_ttl=7, strategy="keep_latest", sweep_interval_minutes=1, sweep_limit=2
    )
    assert holds(said).store_ttl == StoreTTL(default_ttl=3, refresh_on_read=False)
    told = holds(said, store_minutes=4, store_refresh_on_read=True, sweep_minutes=1).store_ttl
    assert told == StoreTTL(default_ttl=4, refresh_on_read=True, sweep_interval_minutes=1)
    for forever in (holds(said, thread_minutes=0, store_minutes=0), holds(None)):
        assert (forever.thread_ttl.default_ttl, forever.store_ttl.default_ttl) == (None, None)
    assert holds(None, thread_minutes=9, store_minutes=4).thread_ttl == TtlEntry(default_ttl=9)


def manifest(folder, ttl, **more):
    path = folder / "langgraph.json"
    graphs = {"agent": "./graph.py:agent"}
    path.write_text(json.dumps({"graphs": graphs, "checkpointer": {"ttl": ttl}, **more}))
    return path


def test_a_manifest_says_how_long(tmp_path):
    read = read_manifest(manifest(tmp_path, {"default_ttl": 7, "strategy": "keep_latest"}))
    assert read.checkpointer is not None
    assert read.checkpointer.ttl == TtlEntry(
        default_ttl=7, strategy="keep_latest", sweep_interval_minutes=5, sweep_limit=1000
    )
    for wrong in ({"default_ttl": 0}, {"strategy": "x"}, {"sweep_limit": 0}):
        with pytest.raises(StartupRefusal, match=r"HR104.*checkpointer\.ttl"):
            read_manifest(manifest(tmp_path, wrong))


async def test_one_that_cannot_be_deleted_keeps_no_other(database_url, database):
    """A table of the user's refers to it."""
    async with sweeping(database_url) as world:
        for number in range(10):
            make(database, f"t{number}", minutes_ago=100 - number, ttl_minutes=1)
        database.execute("UPDATE threads SET sweep_at = now() - interval '1 minute'")
        # Not on the event loop: it waits for transactions of the process's own rounds.
        create = "CREATE TABLE bills (thread_id text REFERENCES threads)"
        await asyncio.to_thread(database.execute, create)
        database.execute("INSERT INTO bills VALUES ('t0')")
        await world.sweeper(strategy="delete").sweep()
        assert ids(database) == {"t0"}
        assert world.counted["deleted"] == 9
        # Behind the others, not again and again.
        assert (await world.sweeper(strategy="delete").sweep()).looked_at == 0
