"""Each fault of a run is told by one line of level warning or above, and counted by its cause."""

import json
from dataclasses import replace

import pytest

from headrace.auth.principal import ANONYMOUS
from headrace.ids import uuid7
from headrace.queue.queue import Queue
from headrace.worker.execution import Stop
from headrace.worker.rescuer import Rescuer
from tests.support.graphs.faulty import GRAPHS
from tests.support.runs import expire_process, register_process, run_request
from tests.support.told_runs import told_runs
from tests.support.waiting import eventually
from tests.support.workers import KWARGS

#: Ways of a run to end: how it is brought about (a function below), the settings of the worker, the
#: events of its lines of level warning and above, and the cause that counts.
ENDS = [
    ("success", {}, [], None),
    ("raises", {}, ["run_failed"], "graph"),
    ("budget", {}, ["run_failed"], "budget"),
    ("graph_not_made", {}, ["run_failed"], "platform"),
    ("checkpoint_gone", {}, ["run_failed"], "graph"),
    ("timeout", {"run_timeout_seconds": 0.3}, ["run_timed_out"], "timeout"),
    # Two faults: its time was over, and it does not stop.
    ("deaf", {"run_timeout_seconds": 0.3}, ["run_timed_out", "run_deaf"], "timeout"),
    ("cancel", {}, [], None),
    ("disconnect", {}, [], None),
    ("next_run", {}, [], None),
    ("rollback", {}, [], None),
    ("deletion", {}, [], None),
    ("waiting_cancel", {}, [], None),
    ("write_refused", {}, ["run_writes_failed"], "platform"),
    ("write_refused_in_mid_run", {}, ["run_writes_failed"], "platform"),
    ("write_refused_before_release", {}, ["run_writes_failed"], "platform"),
    ("all_tasks_cancelled", {}, ["run_not_driven"], "platform"),
    ("taken_over", {}, ["run_rescued"], None),
    ("lease_lost", {}, ["run_rescued"], None),
    ("too_many_losses", {"max_failures": 1}, ["run_rescued"], "lost"),
    ("unserved", {"unserved_timeout_seconds": 1}, ["unserved_run_ended"], "unserved"),
    ("deadline", {}, ["run_timed_out"], "deadline"),
    ("deadline_in_the_queue", {}, ["overdue_run_ended"], "deadline"),
    ("unreadable", {}, ["claimed_run_unreadable"], "platform"),
    ("drain", {}, [], None),
]


async def success(runs):
    return await runs.run("works")


async def raises(runs):
    return await runs.run("explodes")


async def budget(runs):
    return await runs.run("spends")


async def graph_not_made(runs):
    return await runs.run("unmade")


async def checkpoint_gone(runs):
    return await runs.run("works", config={"configurable": {"checkpoint_id": str(uuid7())}})


async def timeout(runs):
    return await runs.run("works", {"seconds": 30})


async def deaf(runs):
    run_id = await runs.run("hears_nothing", {"seconds": 6})
    await eventually(lambda: "run_deaf" in runs.faults(run_id))
    await eventually(lambda: not runs.worker.deaf)
    return run_id


async def begun(runs, **changes):
    run_id = await runs.start("works", {"seconds": 30}, **changes)
    await runs.goes_on(run_id)
    return run_id


async def stopped(runs, action, why):
    run_id = await begun(runs)
    await runs.worker.cancel(ANONYMOUS, [run_id], action, "enough", why)
    await runs.end_of(run_id)
    return run_id


async def cancel(runs):
    return await stopped(runs, "interrupt", "client")


async def rollback(runs):
    return await stopped(runs, "rollback", "client")


async def deletion(runs):
    return await stopped(runs, "delete", "deleted")


async def disconnect(runs):
    run_id = await begun(runs)
    runs.worker.cancel_here(run_id, "the client left", "disconnect")
    await runs.end_of(run_id)
    return run_id


async def next_run(runs):
    run_id = await begun(runs, thread_id="t")
    behind = await runs.start(
        "works", {"seconds": 0}, thread_id="t", multitask_strategy="interrupt"
    )
    await runs.end_of(behind)
    return run_id


async def waiting_cancel(runs):
    run_id = await runs.start("works", after_seconds=30)
    await runs.worker.cancel(ANONYMOUS, [run_id], "interrupt", "enough", "client")
    await runs.end_of(run_id)
    return run_id


def refuse_writes(runs, thread_id):
    """From now on the database takes no checkpoint of the thread."""
    runs.execute(
        f"ALTER TABLE checkpoints ADD CONSTRAINT refused CHECK (thread_id <> '{thread_id}')"
        " NOT VALID"
    )


async def write_refused(runs):
    refuse_writes(runs, "refused")
    return await runs.run("works", thread_id="refused", durability="exit")


async def write_refused_in_mid_run(runs):
    """The write of the first step fails before the graph makes the next one."""
    refuse_writes(runs, "refused")
    return await runs.run("two_steps", {"seconds": 0.2}, thread_id="refused", durability="sync")


async def write_refused_before_release(runs):
    run_id = await begun(runs, thread_id="refused", durability="sync")
    refuse_writes(runs, "refused")
    execution = runs.worker._roster.executions[run_id]
    execution.writes.fail(ValueError("a write was refused"))
    execution.ask_to_stop(Stop.RELEASED, "")
    await runs.end_of(run_id)
    return run_id


async def all_tasks_cancelled(runs):
    return await runs.run("cancels_all")


async def sweep(runs):
    """One round of the rescuer of this process, which waits for no lease."""
    worker, resources = runs.worker, runs.resources
    settings = resources.settings.worker
    await Rescuer(
        worker._queue,
        worker._heartbeat,
        settings,
        resources.metrics,
        worker._roster,
        worker._notifier,
        resources.tracer,
    ).sweep()


async def elsewhere(runs):
    """A run that another process executes."""
    runs_of_other = Queue(runs.resources.pool, runs.resources.writer)
    with_row = replace(run_request(str(uuid7())), graph_id="works", kwargs=KWARGS | {"input": {}})
    database = runs.connected()
    process_id = register_process(database)
    await runs_of_other.start_run_if_free(with_row, process_id)
    expire_process(database, process_id)
    return with_row.run_id


async def taken_over(runs):
    """Another process took it from a dead one; it ends well."""
    run_id = await elsewhere(runs)
    await sweep(runs)
    await runs.end_of(run_id, seconds=30)
    return run_id


async def too_many_losses(runs):
    run_id = await elsewhere(runs)
    await sweep(runs)
    await runs.end_of(run_id)
    return run_id


async def lease_lost(runs):
    """This process was declared lost in mid-run; it goes on with the run in its next life."""
    run_id = await runs.start("works", {"seconds": 1.0}, durability="sync")
    await runs.goes_on(run_id)
    runs.execute("UPDATE processes SET heartbeat_at = now() - interval '1 hour'")
    runs.execute("UPDATE processes SET lost = true")
    lost = runs.worker._heartbeat.process_id
    await eventually(lambda: runs.worker._heartbeat.process_id not in (lost, None))
    await sweep(runs)
    await eventually(lambda: runs.lines_of(run_id, "run_taken_over"), seconds=20)
    await runs.end_of(run_id, seconds=40)
    return run_id


async def unserved(runs):
    run_id = await runs.start("nowhere", in_place=False)
    runs.execute("UPDATE threads SET ready_at = now() - interval '1 hour'")
    runs.execute("UPDATE runs SET created_at = now() - interval '1 hour'")
    await sweep(runs)
    await runs.end_of(run_id)
    return run_id


async def deadline(runs):
    return await runs.run("works", {"seconds": 30}, deadline_seconds=0.3)


async def deadline_in_the_queue(runs):
    run_id = await runs.start("nowhere", in_place=False, deadline_seconds=60)
    runs.execute("UPDATE runs SET created_at = now() - interval '1 hour'")
    await sweep(runs)
    await runs.end_of(run_id)
    return run_id


async def unreadable(runs):
    run_id = await runs.start("works", after_seconds=1.0)
    runs.execute("UPDATE runs SET kwargs = '7'")
    await eventually(lambda: runs.count("headrace_run_errors_total"))
    return run_id


async def drain(runs):
    run_id = await begun(runs)
    await runs.worker.finish(0)
    return run_id


#: How often an end is counted as a cancel, by its reason.
CANCELS = {
    "cancel": "client",
    "rollback": "client",
    "waiting_cancel": "client",
    "deletion": "deleted",
    "disconnect": "disconnect",
    "next_run": "next_run",
}


@pytest.mark.parametrize(("way", "settings", "faults", "cause"), ENDS, ids=[one[0] for one in ENDS])
async def test_each_fault_of_a_run_is_told_once(database_url, way, settings, faults, cause):
    async with told_runs(database_url, GRAPHS, **settings) as runs:
        run_id = await globals()[way](runs)
        assert runs.faults(run_id) == faults, json.dumps(runs.lines_of(run_id), default=str)
        found = runs.scraped()
        causes = [
            labels["cause"]
            for name, labels, value in found.samples
            if name == "headrace_run_errors_total" and value
        ]
        assert causes == ([cause] if cause else [])
        assert found.count("headrace_runs_total", status="error") == (
            cause not in (None, "timeout", "deadline")
        )
        # A run that was rolled back has no row.
        assert runs.row(run_id, "error_cause") in ((cause,), *([None] if cause is None else []))
        if cause:
            ended = runs.lines_of(run_id, "run_ended")
            assert [line["cause"] for line in ended] in ([cause], [])
        reasons = {
            labels["reason"]: value
            for name, labels, value in found.samples
            if name == "headrace_run_cancels_total" and value
        }
        assert reasons == ({CANCELS[way]: 1} if way in CANCELS else {})


async def test_a_run_that_is_rescued_again_is_counted(database_url):
    async with told_runs(database_url, GRAPHS) as runs:
        queue, database = Queue(runs.resources.pool, runs.resources.writer), runs.connected()
        request = replace(run_request("t"), graph_id="elsewhere", kwargs=KWARGS | {"input": {}})
        await queue.enqueue(request)
        for rescues in (1, 2, 3):
            process_id = register_process(database)
            if rescues < 3:
                (attempt,) = await queue.claimer.claim(process_id, ["elsewhere"], 1)
            else:
                (attempt,) = await queue.claimer.claim_suspect(process_id, ["elsewhere"])
            assert attempt.began == ("after_loss" if rescues > 1 else "claimed")
            expire_process(database, process_id)
            await sweep(runs)
            assert runs.count("headrace_rescues_total") == rescues
            assert runs.count("headrace_repeated_rescues_total") == rescues - 1
        assert runs.count("headrace_run_errors_total", graph="elsewhere", cause="lost") == 1
