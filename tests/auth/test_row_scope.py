"""What callers see of rows: of their tenant, their own, and those with the metadata of a filter."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from headrace.assistants.repository import AssistantRepository
from headrace.assistants.schemas import (
    AssistantCreate,
    AssistantFilter,
    AssistantSearch,
    AssistantUpdate,
)
from headrace.assistants.service import AssistantService
from headrace.auth.principal import ANONYMOUS, Principal
from headrace.crons.due_repository import DueCronRepository
from headrace.crons.repository import CronRepository
from headrace.db.engine import Sessions, build_engine
from headrace.db.receipts import Receipts
from headrace.errors import AssistantNotFound, Conflict, SystemAssistant, ThreadNotFound
from headrace.idempotency.repository import IdempotencyRepository
from headrace.idempotency.schemas import RequestKey
from headrace.ids import thread_id_for, uuid7
from headrace.queue.queue import Queue
from headrace.runs.repository import RunRepository
from headrace.runs.timeline_repository import TimelineRepository
from headrace.threads.copies import ThreadCopies
from headrace.threads.reader import ThreadReader
from headrace.threads.repository import ThreadRepository
from headrace.threads.schemas import ThreadFilter
from headrace.threads.search_repository import ThreadSearchRepository
from headrace.threads.search_sql import Order
from headrace.threads.state_repository import StateRepository
from tests.support.database import open_pool
from tests.support.engine import open_writer
from tests.support.runs import register_process, run_request
from tests.support.waiting import eventually

ADA = Principal("ada", tenant="acme", whole_tenant=False)
BOB = Principal("bob", tenant="acme", whole_tenant=False)
ALL_OF_ACME = Principal("service", tenant="acme")
EVE = Principal("ada", tenant="globex", whole_tenant=False)
#: Sees threads of its tenant with this in their metadata, as a handler's filter says.
RED = Principal("carl", tenant="acme", filter={"team": "red"})
FOREIGN = [BOB, EVE, ANONYMOUS, RED, replace(ADA, filter={"team": "red"})]
OWN = [ADA, ALL_OF_ACME, replace(ADA, filter={"n": 1}), replace(ALL_OF_ACME, filter={"n": 1})]


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url, pool_max=8) as opened:
        yield opened


@pytest.fixture
async def writer(pool):
    async with open_writer(pool) as opened:
        yield opened


@pytest.fixture
async def sessions(pool):
    engine = build_engine(pool)
    yield Sessions(engine, timeout_seconds=60)
    await engine.dispose()


@pytest.fixture
async def threads(pool, writer, sessions):
    reader = ThreadReader(pool, acquire_timeout_seconds=5, timeout_seconds=10)
    yield ThreadRepository(sessions, pool, writer, reader)
    await reader.stop()


@pytest.fixture
def queue(pool, writer):
    return Queue(pool, writer)


@pytest.fixture
def runs(sessions):
    return RunRepository(sessions)


async def started(queue, database, principal, thread_id=None, *, create=True):
    """A run that goes on, on a thread of this caller."""
    asked = run_request(thread_id or str(uuid4()), create=create, principal=principal)
    await queue.start_run_if_free(asked, register_process(database))
    return asked


async def test_a_thread_is_there_for_those_who_see_it(threads):
    made = await threads.create(ADA, {"n": 1}, None)
    for own in OWN:
        assert await threads.get(own, made.thread_id) == made
        assert await threads.existing_ids(own, [made.thread_id]) == [made.thread_id]
    for foreign in FOREIGN:
        assert await threads.get(foreign, made.thread_id) is None
        assert await threads.existing_ids(foreign, [made.thread_id]) == []
        assert await threads.update(foreign, made.thread_id, {"n": 2}, None, max_bytes=999) is None
        assert await threads.create_if_absent(foreign, made.thread_id, {}) is None
    assert (await threads.get(ADA, made.thread_id)).metadata == {"n": 1}
    changed = await threads.update(ADA, made.thread_id, {"n": 3}, None, max_bytes=999)
    assert changed.metadata == {"n": 3}


async def test_reads_that_come_together_do_not_mix_callers(threads):
    made = await threads.create(ADA, {"n": 1}, None)
    callers = [*OWN, *FOREIGN] * 20
    found = await asyncio.gather(*(threads.get(one, made.thread_id) for one in callers))
    assert [one is not None for one in found] == [one in OWN for one in callers]


@pytest.mark.parametrize("limit", [1, 2000])
async def test_lists_and_counts_have_the_callers_threads(pool, threads, limit):
    search = ThreadSearchRepository(pool, timeout_seconds=60)
    own = {(await threads.create(ADA, {"n": 1}, None)).thread_id for _ in range(3)}
    other = await threads.create(BOB, {"n": 1, "team": "red"}, None)
    await threads.create(EVE, {"n": 1}, None)
    named = await threads.create(ANONYMOUS, {"team": "red"}, None)

    async def listed(caller, **which):
        found = await search.page(
            caller, ThreadFilter(**which), Order(), limit=limit, offset=0, max_bytes=10**6
        )
        return {row.thread_id for row in found.rows}

    for which in ({}, {"metadata": {"n": 1}}, {"status": "idle"}, {"ids": [*own, other.thread_id]}):
        found = await listed(ADA, **which)
        assert found <= own
        assert len(found) == min(3, limit)
        assert await search.count(ADA, ThreadFilter(**which)) == 3
        assert await listed(RED, **which) == {other.thread_id}
        assert await search.count(RED, ThreadFilter(**which)) == 1
        assert await search.count(ALL_OF_ACME, ThreadFilter(**which)) == 4
    assert await search.count(ANONYMOUS, ThreadFilter()) == 1
    assert await listed(replace(ANONYMOUS, filter={"team": "red"})) == {named.thread_id}
    assert await listed(replace(ANONYMOUS, filter={"team": ["red"]})) == set()


async def test_a_bound_caller_finds_its_threads_by_their_owner(pool, threads, database):
    """A tenant may have a million threads of others."""
    database.execute(
        "INSERT INTO threads (thread_id, tenant, owner, created_at)"
        " SELECT 'x' || n, 'acme', 'other', now() + n * interval '1 second'"
        " FROM generate_series(1, 20000) AS n"
    )
    made = await threads.create(ADA, {}, None)
    database.execute("ANALYZE threads")
    search = ThreadSearchRepository(pool, timeout_seconds=60)
    database.execute("SELECT pg_stat_reset()")
    found = await search.page(ADA, ThreadFilter(), Order(), limit=10, offset=0, max_bytes=10**6)
    assert [row.thread_id for row in found.rows] == [made.thread_id]
    await pool.close()

    def rows_read() -> Any:
        """By scans of the index. A backend counts them when it ends."""
        return database.execute(
            "SELECT idx_tup_read FROM pg_stat_user_indexes"
            " WHERE indexrelname = 'threads_owner_idx' AND idx_scan > 0"
        ).fetchone()

    (read,) = await eventually(rows_read)
    assert read < 10


async def test_the_storage_and_the_copy_of_a_thread_are_those_of_its_callers(pool, writer, threads):
    made = await threads.create(ADA, {"n": 1}, None)
    states, copies = StateRepository(pool), ThreadCopies(pool, writer)
    for own in OWN:
        assert await states.storage(own, made.thread_id) is not None
    for foreign in FOREIGN:
        assert await states.storage(foreign, made.thread_id) is None
        with pytest.raises(Conflict):
            await copies.copy(foreign, made.thread_id)
    copy = await copies.copy(ALL_OF_ACME, made.thread_id)
    assert await threads.get(ALL_OF_ACME, copy.thread_id) is not None
    # Who copies owns the copy.
    assert await threads.get(ADA, copy.thread_id) is None


async def test_a_run_is_reached_through_its_thread(pool, queue, runs, threads, database):
    thread = await threads.create(ADA, {"n": 1}, None)
    # A service of the tenant has started it: its owner is another one than that of its thread.
    run = await started(queue, database, ALL_OF_ACME, thread.thread_id, create=False)
    at = (run.thread_id, run.run_id)
    timelines = TimelineRepository(pool, timeout_seconds=60)

    async def listed(caller):
        page = await runs.search(
            caller, run.thread_id, status=None, limit=10, offset=0, max_bytes=10**6
        )
        return [row.run_id for row in page.rows]

    for own in OWN:
        assert (await runs.get(own, *at)).run_id == run.run_id
        assert (await runs.find(own, run.run_id)).run_id == run.run_id
        assert await listed(own) == [run.run_id]
        assert await timelines.read(own, *at, limit=1, offset=0) is not None
        assert list(await threads.unfinished_runs(own, run_ids=[run.run_id], limit=9))
        assert await threads.executed_run(own, run.thread_id) is not None
    for foreign in FOREIGN:
        assert await runs.get(foreign, *at) is None
        assert await runs.find(foreign, run.run_id) is None
        assert await listed(foreign) == []
        assert await timelines.read(foreign, *at, limit=1, offset=0) is None
        assert not await runs.delete_if_ended(foreign, run.run_id)
        for which in ({"run_ids": [run.run_id]}, {"thread_id": run.thread_id}, {}):
            assert not list(await threads.unfinished_runs(foreign, **which, limit=9))
        assert await threads.executed_run(foreign, run.thread_id) is None
        assert (await runs.find_checkpoints(foreign, run.thread_id, {"": "x"})).missing == ["x"]


async def test_nobody_stops_the_run_of_another(queue, database):
    run = await started(queue, database, ADA)
    for foreign in FOREIGN:
        (told,) = await queue.cancel(foreign, [run.run_id], "rollback", "no", "client")
        assert told.state == "unknown"
    assert database.execute("SELECT cancel_action FROM runs").fetchone() == (None,)
    (told,) = await queue.cancel(ADA, [run.run_id], "interrupt", "enough", "client")
    assert told.state == "asked"


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("key", [None, RequestKey("/threads/t/runs", "k", b"")])
async def test_no_run_is_made_on_the_thread_of_another(queue, threads, database, create, key):
    made = await threads.create(ADA, {"n": 1}, None)
    owner = register_process(database)
    before = database.execute("SELECT * FROM threads").fetchall()
    for foreign in FOREIGN:
        for strategy in ("enqueue", "reject", "interrupt", "rollback"):
            asked = replace(
                run_request(made.thread_id, create=create, principal=foreign),
                multitask_strategy=strategy,
                key=key,
            )
            with pytest.raises(ThreadNotFound):
                await queue.start_run_if_free(asked, owner)
            with pytest.raises(ThreadNotFound):
                await queue.enqueue(asked)
    assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    assert database.execute("SELECT * FROM threads").fetchall() == before


async def test_nobody_replaces_the_runs_of_another(queue, database):
    run = await started(queue, database, ADA)
    for strategy in ("interrupt", "rollback"):
        asked = replace(run_request(run.thread_id, principal=BOB), multitask_strategy=strategy)
        with pytest.raises(ThreadNotFound):
            await queue.enqueue(asked)
    assert database.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    assert database.execute("SELECT cancel_action FROM runs").fetchone() == (None,)


async def test_a_restricted_caller_makes_and_uses_threads(queue, database):
    """Also by the ways on which its thread is checked: with its name, and with a filter."""
    for caller in (ADA, replace(ADA, filter={"team": "red"}), RED):
        run = await started(queue, database, caller)
        (told,) = await queue.cancel(caller, [run.run_id], "interrupt", "enough", "client")
        assert told.state == "asked"
        queued = run_request(run.thread_id, principal=caller)
        await queue.enqueue(queued)
        new = run_request(str(uuid4()), principal=caller)
        await queue.enqueue(new)
        asked = run_request(principal=caller)
        own = replace(asked, thread_id=str(thread_id_for(asked.run_id)))
        await queue.start_run_if_free(own, register_process(database))
        for one in (run, new, own):
            found = database.execute(
                "SELECT owner, metadata @> %s::jsonb FROM threads WHERE thread_id = %s",
                ('{"team": "red"}' if caller.filter else "{}", one.thread_id),
            ).fetchone()
            assert found == (caller.identity, True)
    assert database.execute("SELECT count(*) FROM runs").fetchone() == (12,)


async def test_of_two_who_make_one_thread_at_once_one_has_it(queue, database):
    """Between a look at the thread and the start, another caller may have made it."""
    owner = register_process(database)
    for _ in range(20):
        name = str(uuid4())
        tries = [
            queue.start_run_if_free(run_request(name, principal=caller), owner)
            for caller in (ADA, BOB, EVE, ANONYMOUS)
        ]
        results = await asyncio.gather(*tries, return_exceptions=True)
        won = [one for one in results if not isinstance(one, Exception)]
        assert len(won) == 1
        assert all(isinstance(one, ThreadNotFound) for one in results if one not in won)
        pairs = database.execute(
            "SELECT threads.tenant = runs.tenant AND threads.owner = runs.owner"
            " FROM threads JOIN runs USING (thread_id) WHERE thread_id = %s",
            (name,),
        ).fetchall()
        assert pairs == [(True,)]


def waiting_locks(database: psycopg.Connection) -> int:
    ((count,),) = database.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchall()
    return int(count)


async def test_a_thread_that_another_transaction_makes_is_waited_for(queue, database_url, database):
    """The other one commits while the start is under way."""
    owner = register_process(database)
    with psycopg.connect(database_url) as other:
        other.execute("INSERT INTO threads (thread_id, tenant, owner) VALUES ('t', 'acme', 'bob')")
        start = asyncio.create_task(queue.start_run_if_free(run_request("t", principal=ADA), owner))
        await eventually(lambda: waiting_locks(database) > 0)
        assert not start.done()
        other.commit()
    with pytest.raises(ThreadNotFound):
        await start
    assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)


async def test_assistants_are_those_of_their_owner_and_of_the_server(pool, sessions):
    service = AssistantService(AssistantRepository(sessions, Receipts(pool)), ["agent"])
    await service.create_system({"agent": None})
    body = AssistantCreate(graph_id="agent", metadata={"n": 1})
    made = await service.create(ADA, body)
    reference = str(made.assistant_id)
    for own in OWN:
        assert (await service.get(own, reference)).assistant_id == made.assistant_id
        assert await service.count(own, AssistantFilter()) == 2
        assert (await service.get_for_run(own, reference)).assistant_id == made.assistant_id
    for foreign in FOREIGN:
        for ask in (service.get, service.get_for_run, service.get_runnable, service.delete):
            with pytest.raises(AssistantNotFound):
                await ask(foreign, reference)
        with pytest.raises(AssistantNotFound):
            await service.update(foreign, reference, AssistantUpdate(name="mine"))
        with pytest.raises(AssistantNotFound):
            await service.set_latest(foreign, reference, 1)
        rows, _ = await service.search(foreign, AssistantSearch(), service.reading())
        assert [row.tenant for row in rows] == ["system"]
        assert (await service.get_for_run(foreign, "agent")).graph_id == "agent"
        with pytest.raises(SystemAssistant):
            await service.delete(foreign, "agent")


async def test_a_run_needs_the_assistants_that_its_caller_sees():
    """The filter of a request is for its own resource."""
    caller = replace(ADA, filter={"a": 1})
    assert (caller.unfiltered.filter, caller.unfiltered.owner) == ({}, "ada")
    assert ADA.unfiltered is ADA


async def test_crons_are_those_of_their_owner_and_fire_as_their_owner(pool, sessions, database):
    crons = CronRepository(sessions, list_timeout_seconds=60)
    cron_id = uuid7()
    content = {
        "assistant_id": uuid7(),
        "thread_id": None,
        "schedule": "* * * * *",
        "metadata_": {"n": 1},
        "next_run_date": await crons.now() - timedelta(seconds=1),
        "look_at": await crons.now() - timedelta(seconds=1),
    }
    await crons.create_if_absent(ADA, cron_id, content)
    for own in OWN:
        owned = await crons.get(own, cron_id)
        assert owned is not None
        assert owned.cron_id == cron_id
        assert await crons.count(own, {}) == 1
    seen = await crons.get(ADA, cron_id)
    assert seen is not None
    for foreign in FOREIGN:
        assert await crons.get(foreign, cron_id) is None
        assert await crons.count(foreign, {}) == 0
        assert await crons.update_if_unchanged(foreign, seen, {"enabled": False}) is None
        assert not await crons.delete(foreign, cron_id)
    (due,) = await DueCronRepository(pool).take(limit=9, seconds=9)
    assert due.principal == ADA
    assert await crons.delete(ADA, cron_id)


async def test_two_callers_may_send_one_key(sessions):
    keys = IdempotencyRepository(sessions, kept=timedelta(hours=1), lease=timedelta(seconds=15))
    key = RequestKey("/threads", "k", b"1")
    callers = [ADA, BOB, ALL_OF_ACME, EVE, ANONYMOUS]
    ids = [uuid7() for _ in callers]
    for caller, reserved in zip(callers, ids, strict=True):
        assert await keys.take_if_absent(caller, key, reserved)
        assert not await keys.take_if_absent(caller, key, uuid7())
    rows = [await keys.get(caller, key) for caller in callers]
    assert [row and row.run_id for row in rows] == ids
    await keys.forget(BOB, key)
    assert await keys.get(BOB, key) is None
    assert await keys.get(ADA, key) is not None


def test_no_route_of_a_caller_looks_like_that_of_another():
    routes = {
        RequestKey(route, "k", b"").route_of(replace(ADA, identity=identity))
        for identity, route in [("a", "/b /c"), ("a /b", "/c"), ("anonymous", "/c"), ("a", "/c")]
    }
    assert len(routes) == 4
