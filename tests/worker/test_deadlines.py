"""The deadline of a run counts from its making, in whichever process it is executed."""

import pytest
import structlog.testing

from headrace.auth.principal import ANONYMOUS
from headrace.queue.ends import RELEASED
from tests.support.graphs.faulty import GRAPHS
from tests.support.runs import expire_process, register_process, run_request
from tests.support.told_runs import told_runs
from tests.worker.test_fault_lines import begun, sweep


async def age(runs, run_id, seconds):
    """As if the run had been made so long ago."""
    runs.execute(
        "UPDATE runs SET created_at = created_at - make_interval(secs => %s) WHERE run_id = %s",
        seconds,
        run_id,
    )


async def test_a_run_ends_at_its_deadline(database_url):
    async with told_runs(database_url, GRAPHS) as runs:
        run_id = await runs.run("works", {"seconds": 30}, deadline_seconds=0.3)
        status, error, cause = runs.row(run_id, "status, error, error_cause")
        assert (status, cause) == ("timeout", "deadline")
        assert error["error"] == "DeadlineExceeded"
        assert "0.3 s" in error["message"]
        (line,) = runs.lines_of(run_id, "run_timed_out")
        assert (line["seconds"], line["limit"]) == (0.3, "deadline_seconds")
        assert runs.count("headrace_run_errors_total", graph="works", cause="deadline") == 1
        assert runs.row(await runs.run("works", deadline_seconds=30), "status") == ("success",)


async def test_the_time_limit_of_the_server_holds_still(database_url):
    async with told_runs(database_url, GRAPHS, run_timeout_seconds=0.3) as runs:
        run_id = await runs.run("works", {"seconds": 30}, deadline_seconds=60)
        assert runs.row(run_id, "status, error_cause") == ("timeout", "timeout")
        (line,) = runs.lines_of(run_id, "run_timed_out")
        assert line["limit"] == "run_timeout_seconds"


async def test_the_deadline_outlives_the_process_that_began_the_run(database_url):
    """The next attempt has only what is left of it."""
    async with told_runs(database_url, GRAPHS) as runs:
        run_id = await begun(runs, deadline_seconds=60)
        await age(runs, run_id, 59)
        execution = runs.worker._roster.executions[run_id]
        await runs.worker._queue.end_if_owned(execution.token, execution.thread_id, RELEASED)
        await runs.end_of(run_id)
        status, attempt, cause = runs.row(run_id, "status, attempt, error_cause")
        assert (status, attempt, cause) == ("timeout", 2, "deadline")


async def test_a_rescued_run_whose_deadline_has_passed_does_not_go_on(database_url):
    async with told_runs(database_url, GRAPHS, enabled=False) as runs:
        queue, database = runs.worker._queue, runs.connected()
        owner = register_process(database)
        asked = run_request()
        asked.kwargs["deadline_seconds"] = 60
        await queue.start_run_if_free(asked, owner)
        await age(runs, asked.run_id, 61)
        expire_process(database, owner)
        await sweep(runs)
        assert runs.row(asked.run_id, "status, error_cause") == ("timeout", "deadline")
        thread = database.execute(
            "SELECT status, error ->> 'error', running_run_id, ready_run_id FROM threads"
        ).fetchone()
        assert thread == ("error", "DeadlineExceeded", None, None)


async def test_a_run_that_has_not_begun_leaves_its_thread_as_it_was(database_url):
    async with told_runs(database_url, GRAPHS, enabled=False) as runs:
        queue, database = runs.worker._queue, runs.connected()
        owner = register_process(database)
        before = run_request()
        await queue.start_run_if_free(before, owner)
        late, behind, doomed = (run_request() for _ in range(3))
        late.kwargs["deadline_seconds"] = doomed.kwargs["deadline_seconds"] = 0.5
        for one in (late, behind, doomed):
            await queue.enqueue(one)
        await age(runs, late.run_id, 1)
        await queue.cancel(ANONYMOUS, [doomed.run_id], "interrupt", "enough", "client")
        await age(runs, doomed.run_id, 1)
        (ended,) = await queue.takeover.end_overdue_runs()
        assert ended.run_id == late.run_id
        assert database.execute("SELECT status, running_run_id, error FROM threads").fetchone() == (
            "busy",
            before.run_id,
            None,
        )
        await queue.cancel(ANONYMOUS, [behind.run_id], "interrupt", "enough", "client")
        assert await queue.takeover.end_overdue_runs() == []


@pytest.mark.parametrize("value", ["soon", [], {"a": 1}, None])
async def test_a_deadline_that_another_program_has_damaged_ends_nothing_else(database_url, value):
    async with told_runs(database_url, GRAPHS, enabled=False) as runs:
        queue, database = runs.worker._queue, runs.connected()
        odd, sound = run_request("odd"), run_request("sound")
        odd.kwargs["deadline_seconds"], sound.kwargs["deadline_seconds"] = value, 0.001
        await queue.enqueue(odd)
        await queue.enqueue(sound)
        await age(runs, sound.run_id, 1)
        (ended,) = await queue.takeover.end_overdue_runs()
        assert ended.run_id == sound.run_id
        with structlog.testing.capture_logs():
            assert await queue.claimer.claim(register_process(database), ["agent"], 10) == []
        row = "SELECT status, error ->> 'error' FROM runs WHERE run_id = %s"
        assert runs.execute(row, odd.run_id).fetchone() == ("error", "RunUnreadable")


async def test_a_delay_does_not_count(database_url):
    async with told_runs(database_url, GRAPHS) as runs:
        run_id = await runs.run("works", {"seconds": 0.1}, after_seconds=1.5, deadline_seconds=1.4)
        assert runs.row(run_id, "status") == ("success",)
