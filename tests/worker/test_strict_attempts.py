"""A strict resume that goes on in another attempt: the earlier one may have used its answers."""

from headrace.auth.principal import ANONYMOUS
from headrace.queue.ends import RELEASED
from tests.support.graphs.door import asks_and_waits
from tests.support.told_runs import told_runs
from tests.support.waiting import eventually

UNKNOWN = "0" * 32


async def answering(runs, tmp_path, **command):
    """A run that has answered the quick node, and waits in the slow one."""
    gate = tmp_path / "gate"
    first = await runs.run("asks", {"x": "1", "gate": str(gate)}, thread_id="t", durability="sync")
    ((interrupts,),) = runs.execute("SELECT interrupts FROM runs WHERE run_id = %s", first)
    ids = {one["node"]: one["id"] for one in interrupts}
    answers = {ids["quick"]: "a", ids["slow"]: "b", **command}
    run_id = await runs.start(
        "asks",
        thread_id="t",
        durability="sync",
        command={"resume": answers},
        strict_resume=True,
    )
    return gate, run_id


def written(runs) -> bool:
    """The quick node has ended: its output is stored, without a checkpoint of the run."""
    found = runs.execute("SELECT count(*) FROM checkpoint_writes WHERE channel = 'log'")
    return bool(found.fetchone()[0])


async def test_answers_that_an_earlier_attempt_has_used_are_no_fault(database_url, tmp_path):
    async with told_runs(database_url, {"asks": asks_and_waits}) as runs:
        gate, run_id = await answering(runs, tmp_path)
        await eventually(lambda: written(runs))
        execution = runs.worker._roster.executions[run_id]
        assert execution.writes is not None
        await execution.writes.committed()
        await runs.worker._queue.end_if_owned(execution.token, "t", RELEASED)
        await eventually(lambda: runs.row(run_id, "attempt") == (2,))
        gate.touch()
        await runs.end_of(run_id)
        assert runs.row(run_id, "status, attempt") == ("success", 2)


async def test_an_unknown_id_is_refused_in_a_later_attempt_too(database_url, tmp_path):
    async with told_runs(database_url, {"asks": asks_and_waits}) as runs:
        gate = tmp_path / "gate"
        gate.touch()
        await runs.run("asks", {"x": "1"}, thread_id="t", durability="sync")
        run_id = await runs.start(
            "asks",
            thread_id="t",
            in_place=False,
            after_seconds=0.5,
            durability="sync",
            command={"resume": {UNKNOWN: "x"}},
            strict_resume=True,
        )
        # As if an earlier attempt had been lost before it did anything.
        runs.execute("UPDATE runs SET attempt = 1 WHERE run_id = %s", run_id)
        await runs.end_of(run_id)
        status, attempt, error = runs.row(run_id, "status, attempt, error")
        assert (status, attempt, error["error"]) == ("error", 2, "ResumeRefused")
        assert "(node quick)" in error["message"]
        assert runs.execute("SELECT status, error FROM threads").fetchone() == ("interrupted", None)


async def test_a_reason_that_comes_a_moment_before_the_end_is_told(database_url, tmp_path):
    """The process learns of the cancel by the refusal of its own end."""
    async with told_runs(database_url, {"asks": asks_and_waits}) as runs:
        gate, run_id = await answering(runs, tmp_path)
        await eventually(lambda: written(runs))
        execution = runs.worker._roster.executions[run_id]
        # Nobody tells the process: its row alone has the request.
        runs.worker._executions._stop_requests._roster = type(runs.worker._roster)(
            runs.worker._roster.places, runs.worker._notifier, enabled=True
        )
        await runs.worker._queue.cancel(
            ANONYMOUS, [run_id], "interrupt", "enough", "client", "wrong customer"
        )
        gate.touch()
        outcome = await execution.outcome(20)
        assert outcome is not None
        assert outcome.error is not None
        assert (outcome.status, outcome.error["reason"]) == ("interrupted", "wrong customer")
        (line,) = runs.lines_of(run_id, "run_ended")
        assert (line["cancel_reason"], line["cancel_note"]) == ("client", "wrong customer")
