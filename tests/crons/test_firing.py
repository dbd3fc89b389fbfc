"""Due crons make their runs: once for each slot, over all processes, whatever comes between."""

import asyncio
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.types.json import Jsonb

from headrace.assistants.schemas import AssistantCreate
from headrace.auth.principal import ANONYMOUS, Principal
from headrace.crons.due_repository import DueCronRepository
from headrace.crons.schemas import CronFilter, CronPatch
from headrace.errors import InvalidRequest, SlotTaken
from headrace.queue.rows import CronSlot
from headrace.runs.schemas import RunCreate
from headrace.threads.schemas import ThreadCreate
from tests.support.crons import HELLO, create_cron, make_due, row_of, runs_of
from tests.support.database import open_pool
from tests.support.graphs.graphs import agent, boom, make_slow
from tests.support.pair import open_states
from tests.support.runs import run_request
from tests.support.waiting import eventually, wait_until

GRAPHS = {"agent": agent, "slow": make_slow(), "boom": boom}


@asynccontextmanager
async def opened(url, *, count=2, poll_seconds=0.05, **crons):
    groups = {
        "crons": {"retry_seconds": 0.3, "poll_seconds": poll_seconds, **crons},
        # A temporary thread is deleted when its followers had time to see the end.
        "events": {"poll_seconds": 0.1},
    }
    async with open_states(url, GRAPHS, count=count, **groups) as states:
        yield states


async def new_thread(process):
    return (await process.threads.create(ANONYMOUS, ThreadCreate())).thread_id


def slot_of(cron) -> datetime:
    assert cron.next_run_date is not None
    return cron.next_run_date  # type: ignore[no-any-return]


async def ended_runs(database, cron_id):
    """Its runs, when there are some and all have ended."""

    def found():
        runs = runs_of(database, cron_id)
        return runs if runs and all(run[2] == "success" for run in runs) else None

    return await eventually(found)


async def moved_on(database, cron_id, slot):
    return await eventually(lambda: row_of(database, cron_id)[0] != slot)


async def test_a_due_slot_gets_one_run_over_all_processes(database, database_url):
    async with opened(database_url, count=3) as (one, two, _):
        cron = await create_cron(one.crons, on_run_completed="keep", metadata={"of": "mine"})
        slot = make_due(database, cron.cron_id)
        two.notifier.crons_changed()
        ((thread_id, stored, _, owner, kwargs),) = await ended_runs(database, cron.cron_id)
        await asyncio.sleep(0.3)
        assert len(runs_of(database, cron.cron_id)) == 1
        assert (stored, owner) == (slot, "anonymous")
        configurable = kwargs["config"]["configurable"]
        assert configurable["cron_id"] == str(cron.cron_id)
        assert datetime.fromisoformat(configurable["cron_slot"]) == slot
        assert kwargs["input"] == {"messages": [["user", "hi"]]}
        next_date, look_at, *_ = row_of(database, cron.cron_id)
        assert next_date == look_at == cron.next_run_date
        metadata = database.execute(
            "SELECT metadata FROM runs WHERE thread_id = %s", (thread_id,)
        ).fetchone()[0]
        assert metadata["of"] == "mine"
        of_thread = database.execute(
            "SELECT metadata FROM threads WHERE thread_id = %s", (thread_id,)
        ).fetchone()[0]
        assert of_thread.items() >= {"of": "mine", "cron_id": str(cron.cron_id)}.items()
        assert "cron_slot" not in of_thread


async def test_many_crons_that_are_due_at_once_get_one_run_each(database, database_url):
    async with opened(database_url, firings_per_look=4) as (one, _):
        crons = [await create_cron(one.crons, on_run_completed="keep") for _ in range(20)]
        for cron in crons:
            make_due(database, cron.cron_id)
        for cron in crons:
            assert len(await ended_runs(database, cron.cron_id)) == 1


async def test_after_an_outage_there_is_one_run_and_no_storm(database, database_url):
    async with opened(database_url, count=1) as (one,):
        cron = await create_cron(one.crons, schedule="* * * * *", on_run_completed="keep")
        slot = make_due(database, cron.cron_id, late="3 days")
        ((_, stored, *_),) = await ended_runs(database, cron.cron_id)
        assert stored == slot
        next_date, *_ = row_of(database, cron.cron_id)
        assert timedelta(0) < next_date - datetime.now(UTC) <= timedelta(seconds=60)


async def test_a_timer_wakes_a_process_at_the_next_slot_and_a_notice_when_it_changes(
    database, database_url
):
    """Polling would find it in ten minutes."""
    async with opened(database_url, poll_seconds=600, min_interval_seconds=1) as (one, two):
        await eventually(lambda: one.notifier.connected and two.notifier.connected)
        cron = await create_cron(one.crons, schedule="* * * * * *", on_run_completed="keep")
        await eventually(lambda: len(runs_of(database, cron.cron_id)) >= 2, seconds=5)
        slots = [run[1] for run in runs_of(database, cron.cron_id)]
        assert len(slots) == len(set(slots))
        assert all(slot.microsecond == 0 for slot in slots)


async def test_a_disabled_cron_makes_no_run_and_missed_slots_are_not_made_up_for(
    database, database_url
):
    async with opened(database_url, count=1) as (one,):
        cron = await create_cron(one.crons, enabled=False)
        assert row_of(database, cron.cron_id)[1] is None
        database.execute(
            "UPDATE crons SET next_run_date = now() - interval '1 hour' WHERE cron_id = %s",
            (cron.cron_id,),
        )
        await asyncio.sleep(0.2)
        enabled = await one.crons.update(ANONYMOUS, cron.cron_id, CronPatch(enabled=True))
        assert enabled.next_run_date == cron.next_run_date
        await asyncio.sleep(0.2)
        assert runs_of(database, cron.cron_id) == []


async def test_after_the_end_time_there_are_no_slots(database, database_url):
    async with opened(database_url, count=1) as (one,):
        cron = await create_cron(
            one.crons,
            schedule="* * * * *",
            on_run_completed="keep",
            end_time=datetime.now(UTC) + timedelta(minutes=2),
        )
        database.execute("UPDATE crons SET end_time = now() + interval '1 ms'")
        slot = make_due(database, cron.cron_id)
        assert len(await ended_runs(database, cron.cron_id)) == 1
        await moved_on(database, cron.cron_id, slot)
        assert row_of(database, cron.cron_id) == (None, None, True, None)
        # It has ended, and can be changed in other ways.
        ended = await one.crons.update(ANONYMOUS, cron.cron_id, CronPatch(metadata={"a": 1}))
        assert (ended.next_run_date, ended.metadata_) == (None, {"a": 1})
        off = await one.crons.update(ANONYMOUS, cron.cron_id, CronPatch(enabled=False))
        assert off.next_run_date is None
        with pytest.raises(InvalidRequest, match="no slot"):
            await one.crons.update(ANONYMOUS, cron.cron_id, CronPatch(enabled=True))
        again = await one.crons.update(ANONYMOUS, cron.cron_id, CronPatch(end_time=None))
        assert again.next_run_date is not None


async def test_on_a_thread_runs_share_the_state_and_go_with_it(database, database_url):
    async with opened(database_url, count=1) as (one,):
        thread_id = await new_thread(one)
        cron = await create_cron(one.crons, thread_id=thread_id)
        for runs in (1, 2):
            make_due(database, cron.cron_id)
            await eventually(lambda: len(runs_of(database, cron.cron_id)) == runs)  # noqa: B023
            assert {run[0] for run in await ended_runs(database, cron.cron_id)} == {thread_id}
            found = database.execute(
                "SELECT count(DISTINCT metadata->>'cron_slot') FROM checkpoints"
                " WHERE thread_id = %s AND metadata @> %s",
                (thread_id, Jsonb({"cron_id": str(cron.cron_id)})),
            ).fetchone()
            assert found == (runs,)
        await one.thread_removal.delete(ANONYMOUS, thread_id)
        assert row_of(database, cron.cron_id) is None


async def test_a_thread_without_a_name_is_deleted_after_the_run(database, database_url):
    async with opened(database_url, count=1) as (one,):
        cron = await create_cron(one.crons)
        slot = make_due(database, cron.cron_id)
        await moved_on(database, cron.cron_id, slot)
        await eventually(
            lambda: database.execute("SELECT count(*) FROM threads").fetchone() == (0,)
        )


async def test_a_busy_thread_gets_what_the_strategy_says(database, database_url):
    async with opened(database_url, count=1) as (one,):
        thread_id = await new_thread(one)
        slow = RunCreate(assistant_id="slow", input={"seconds": 20})
        await one.runs.create(ANONYMOUS, thread_id, slow, request_id="", background=True)
        reject = await create_cron(one.crons, thread_id=thread_id, multitask_strategy="reject")
        slot = make_due(database, reject.cron_id)
        await moved_on(database, reject.cron_id, slot)
        assert runs_of(database, reject.cron_id) == []
        enqueue = await create_cron(one.crons, thread_id=thread_id)
        make_due(database, enqueue.cron_id)
        ((*_, status, _, _),) = await eventually(lambda: runs_of(database, enqueue.cron_id))
        assert status == "pending"
        interrupt = await create_cron(
            one.crons, thread_id=thread_id, multitask_strategy="interrupt"
        )
        make_due(database, interrupt.cron_id)
        await ended_runs(database, interrupt.cron_id)
        assert runs_of(database, enqueue.cron_id)[0][2] == "interrupted"


async def test_a_deleted_assistant_disables_its_crons(database, database_url):
    async with opened(database_url, count=1) as (one,):
        made = await one.assistants.create(ANONYMOUS, AssistantCreate(graph_id="agent"))
        name = str(made.assistant_id)
        told, silent = [await create_cron(one.crons, name) for _ in range(2)]
        # Another release may delete it without a look at crons.
        database.execute("DELETE FROM assistants WHERE assistant_id = %s", (name,))
        slot = make_due(database, silent.cron_id)
        await eventually(lambda: not row_of(database, silent.cron_id)[2])
        assert row_of(database, silent.cron_id)[:2] == (slot, None)
        assert "not found" in row_of(database, silent.cron_id)[3]
        assert row_of(database, told.cron_id)[2]


async def test_the_deletion_of_an_assistant_says_why_in_its_crons(database, database_url):
    async with opened(database_url, count=1) as (one,):
        made = await one.assistants.create(ANONYMOUS, AssistantCreate(graph_id="agent"))
        cron = await create_cron(one.crons, str(made.assistant_id))
        await one.assistants.delete(ANONYMOUS, str(made.assistant_id))
        row = await one.crons.get(ANONYMOUS, cron.cron_id)
        assert (row.enabled, row.disabled_reason) == (False, "The assistant was deleted.")


async def test_what_can_not_be_run_is_tried_for_a_while_and_then_skipped(database, database_url):
    async with opened(database_url, count=1) as (one,):
        cron = await create_cron(one.crons)
        database.execute("""UPDATE crons SET payload = '{"stream_mode": ["nonsense"]}'""")
        slot = make_due(database, cron.cron_id)
        await eventually(lambda: row_of(database, cron.cron_id)[1] > slot + timedelta(seconds=0.1))
        assert row_of(database, cron.cron_id)[0] == slot, "another process may be able to"
        old = make_due(database, cron.cron_id, late="2 minutes")
        await moved_on(database, cron.cron_id, old)
        assert row_of(database, cron.cron_id)[2:] == (True, None)
        assert runs_of(database, cron.cron_id) == []


async def test_a_cron_whose_process_died_after_taking_it_is_taken_again(database, database_url):
    async with opened(database_url, count=1) as (one,):
        cron = await create_cron(one.crons, on_run_completed="keep")
    # By now no process looks for crons that are due.
    slot = make_due(database, cron.cron_id)
    async with open_pool(database_url) as pool:
        repository = DueCronRepository(pool)
        (taken,) = await repository.take(limit=10, seconds=0.3)
        assert (taken.cron_id, taken.slot) == (cron.cron_id, slot)
        assert await repository.take(limit=10, seconds=0.3) == []
    async with opened(database_url, count=1):
        assert len(await ended_runs(database, cron.cron_id)) == 1


async def test_one_slot_makes_one_run_however_many_processes_try_at_once(database, database_url):
    async with opened(database_url, poll_seconds=600) as processes:
        cron = await create_cron(processes[0].crons)
        slot = CronSlot(cron.cron_id, slot_of(cron), None)
        body = RunCreate(assistant_id="agent", input=HELLO, on_completion="keep")
        tries = [
            process.runs.create(ANONYMOUS, None, body, request_id="", background=True, slot=slot)
            for process in processes
            for _ in range(5)
        ]
        made = await asyncio.gather(*tries, return_exceptions=True)
        assert [type(one) for one in made].count(SlotTaken) == 9
        assert len(await ended_runs(database, cron.cron_id)) == 1
        assert row_of(database, cron.cron_id)[:2] == (None, None)


async def test_a_repeated_flush_makes_no_second_run_and_finds_the_first(database, database_url):
    """The answer to a commit may be lost; the writer repeats the flush then."""
    async with opened(database_url, count=1, poll_seconds=600) as (one,):
        cron = await create_cron(one.crons)
        thread_id = await new_thread(one)
        slot = CronSlot(cron.cron_id, slot_of(cron), None)
        request = replace(run_request(thread_id, create=False), slot=slot)
        first, second = await one.worker.submit(request), await one.worker.submit(request)
        assert first == second
        assert database.execute("SELECT run_id FROM runs").fetchall() == [(request.run_id,)]
        assert row_of(database, cron.cron_id)[:2] == (None, None)


async def test_a_slot_that_has_its_run_stops_no_other_run(database, database_url):
    async with opened(database_url, count=1, poll_seconds=600) as (one,):
        thread_id = await new_thread(one)
        cron = await create_cron(one.crons, thread_id=thread_id, multitask_strategy="interrupt")
        slow = RunCreate(assistant_id="slow", input={"seconds": 0.2})
        run = await one.runs.create(ANONYMOUS, thread_id, slow, request_id="", background=True)
        gone = CronSlot(cron.cron_id, slot_of(cron) - timedelta(days=1), None)
        body = RunCreate(assistant_id="agent", input=HELLO, multitask_strategy="interrupt")
        with pytest.raises(SlotTaken):
            await one.runs.create(
                ANONYMOUS, thread_id, body, request_id="", background=True, slot=gone
            )
        outcome = await run.outcome(10)
        assert outcome.status == "success"


async def test_a_run_belongs_to_the_owner_of_its_cron(database, database_url):
    async with opened(database_url, count=1) as (one,):
        owner = Principal("ada", tenant="acme", caller="k1")
        cron = await create_cron(one.crons, owner=owner, on_run_completed="keep")
        make_due(database, cron.cron_id)
        await ended_runs(database, cron.cron_id)
        assert database.execute("SELECT tenant, owner, caller FROM runs").fetchall() == [
            ("acme", "ada", "k1")
        ]
        stranger = Principal("eve", tenant="other")
        assert await one.crons.count(stranger, CronFilter()) == 0


@contextmanager
def locked_when_taken(database, url, cron_id):
    """Another transaction locks the cron just before its run is made; then its own block begins.

    Until the cron is locked, its process cannot read the assistant.
    """
    with psycopg.connect(url) as holder, psycopg.connect(url) as change:
        holder.execute("LOCK TABLE assistants IN ACCESS EXCLUSIVE MODE")
        slot = make_due(database, cron_id)
        wait_until(lambda: row_of(database, cron_id)[1] > slot + timedelta(seconds=5))
        change.execute("SELECT FROM crons WHERE cron_id = %s FOR NO KEY UPDATE", (cron_id,))
        holder.rollback()
        yield change


@pytest.fixture
async def locked(database, database_url):
    """A cron that was taken and is locked; another process looks at it again after 10 s."""
    groups = {"count": 1, "retry_seconds": 10, "poll_seconds": 0.05}
    async with opened(database_url, **groups) as (one,):
        made = await one.assistants.create(ANONYMOUS, AssistantCreate(graph_id="agent"))
        cron = await create_cron(one.crons, str(made.assistant_id), on_run_completed="keep")
        with ExitStack() as stack:
            lock = locked_when_taken(database, database_url, cron.cron_id)
            change = await asyncio.to_thread(stack.enter_context, lock)
            # By then its process has tried to make the run.
            await asyncio.sleep(0.3)
            yield cron, change


async def test_a_slot_whose_cron_was_locked_gets_its_run_soon_after(database, locked):
    cron, change = locked
    assert runs_of(database, cron.cron_id) == []
    change.rollback()
    await eventually(lambda: runs_of(database, cron.cron_id), seconds=2)
    await asyncio.sleep(0.3)
    assert len(runs_of(database, cron.cron_id)) == 1


async def test_a_slot_that_got_its_run_under_the_lock_gets_no_other(database, locked):
    cron, change = locked
    change.execute("UPDATE crons SET next_run_date = %s, look_at = %s", (cron.next_run_date,) * 2)
    change.commit()
    await asyncio.sleep(0.5)
    assert runs_of(database, cron.cron_id) == []
    assert row_of(database, cron.cron_id)[:2] == (cron.next_run_date, cron.next_run_date)


async def test_a_run_under_a_lock_does_what_the_change_said(database, locked):
    cron, change = locked
    change.execute("UPDATE crons SET payload = payload || %s", (Jsonb({"metadata": {"a": 1}}),))
    change.commit()
    await eventually(lambda: runs_of(database, cron.cron_id), seconds=2)
    found = database.execute("SELECT metadata->>'a' FROM runs").fetchall()
    assert found == [("1",)]


async def test_a_process_that_drains_makes_no_runs(database, database_url):
    async with opened(database_url, count=1) as (one,):
        cron = await create_cron(one.crons)
        one.worker.refuse_new()
        slot = make_due(database, cron.cron_id)
        await asyncio.sleep(0.3)
        assert row_of(database, cron.cron_id)[0] == slot
