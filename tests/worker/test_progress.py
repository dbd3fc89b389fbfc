"""What is measured of attempts: waits, first events, steps, nodes, and how an attempt began."""

from dataclasses import replace

import pytest

from headrace.auth.principal import ANONYMOUS
from headrace.ids import uuid7
from headrace.queue.ends import RELEASED
from headrace.queue.queue import Queue
from headrace.worker.execution import Stop
from tests.support.graphs import timed
from tests.support.pace import within
from tests.support.runs import expire_process, register_process, run_request
from tests.support.told_runs import told_runs
from tests.support.waiting import eventually
from tests.support.workers import KWARGS

GRAPHS = {
    "chain": timed.chain(first=0.3, second=0.02),
    "silent": timed.chain(first=0.02, silent=0.05, last=0.02),
    "beside": timed.beside(),
    "nested": timed.nested(),
    "retried": timed.retried(),
    "asks": timed.asks(),
    "slow": timed.chain(quick=0.0, slow=2.5, after=0.0),
    "long": timed.chain(first=0.0, second=30.0),
}


@pytest.fixture
async def runs(database_url):
    async with told_runs(database_url, GRAPHS, slow_node_seconds=0.8) as runs:
        yield runs


def nodes(runs, graph):
    """Node to how often it ended, and its seconds together."""
    found = runs.scraped()
    names = {
        labels["node"]
        for name, labels, _ in found.samples
        if name == "headrace_node_seconds_count" and labels["graph"] == graph
    }
    return {
        name: (
            found.value("headrace_node_seconds_count", graph=graph, node=name),
            found.value("headrace_node_seconds_sum", graph=graph, node=name),
        )
        for name in names
    }


@pytest.mark.parametrize(
    ("graph", "steps", "expected"),
    [
        ("chain", 2, {"first": (1, 0.3), "second": (1, 0.02)}),
        # The silent step counts with the last one, whose node seems to take as long as both.
        ("silent", 2, {"first": (1, 0.02), "silent": (1, 0.05), "last": (1, 0.07)}),
        (
            "beside",
            3,
            {"short": (1, 0.02), "long": (1, 0.1), "worker": (2, 0.12), "last": (1, 0.01)},
        ),
        ("nested", 1, {"outer": (1, 0.05)}),
        ("retried", 1, {"flaky": (1, 0.1)}),
    ],
)
@pytest.mark.parametrize("modes", [["values"], ["events", "messages-tuple"]])
async def test_steps_are_counted_and_nodes_are_timed(runs, graph, steps, expected, modes):
    run_id = await runs.run(graph, {"done": []}, stream_mode=modes, subgraphs=graph == "nested")
    found = nodes(runs, graph)
    assert found.keys() == expected.keys()
    for name, (count, seconds) in expected.items():
        # A busy machine may take longer, but no node is faster than it sleeps.
        assert found[name][0] == count, name
        assert found[name][1] >= seconds, name
    assert runs.count("headrace_steps_total", graph=graph) == steps
    (line,) = runs.lines_of(run_id, "run_ended")
    assert (line["steps"], line["attempt"], line["cause"]) == (steps, 1, None)
    if graph in ("chain", "silent"):
        # Each node is timed from its own step: together they take no longer than the run.
        twice = found["silent"][1] if graph == "silent" else 0
        assert sum(seconds for _, seconds in found.values()) - twice <= line["seconds"] + 0.01


async def test_an_interrupted_step_counts_once_it_is_answered(runs):
    thread = str(uuid7())
    await runs.run("asks", {"done": []}, thread_id=thread)
    assert nodes(runs, "asks").keys() == {"other"}
    assert runs.count("headrace_steps_total", graph="asks") == 0
    await runs.run("asks", command={"resume": "yes"}, input=None, thread_id=thread)
    assert {name: count for name, (count, _) in nodes(runs, "asks").items()} == {
        "other": 1,
        "ask": 1,
        "after": 1,
    }
    assert runs.count("headrace_steps_total", graph="asks") == 2
    # A resume is an attempt of its own run: it repeats nothing.
    assert runs.count("headrace_repeated_nodes_total") == 0


async def test_a_start_in_place_waits_for_its_commit_only(runs):
    run_id = await runs.run("chain", {"done": []})
    assert runs.count("headrace_run_attempts_total", began="in_place") == 1
    assert runs.value_of("headrace_run_queue_seconds_sum", graph="chain") < within(0.5)
    (line,) = runs.lines_of(run_id, "run_started")
    assert (line["in_place"], line["log_level"]) == (True, "debug")
    assert runs.lines_of(run_id, "run_queued") == runs.lines_of(run_id, "run_claimed") == []


async def test_the_wait_counts_from_when_the_run_may_start(runs):
    run_id = await runs.run("chain", {"done": []}, after_seconds=1.0)
    waited = runs.value_of("headrace_run_queue_seconds_sum", graph="chain")
    assert 0 <= waited < within(0.9)
    assert runs.count("headrace_run_attempts_total", began="claimed") == 1
    lines = [line for line in runs.lines_of(run_id) if line["event"].startswith("run_")]
    assert [line["event"] for line in lines] == [
        "run_queued",
        "run_claimed",
        "run_started",
        "run_ended",
    ]
    queued, claimed, started, ended = lines
    assert queued["reason"] == "delayed"
    assert claimed["began"] == "claimed"
    for line in (queued, claimed, started, ended):
        assert line["graph_id"] == "chain"
        assert line.keys() >= {"run_id", "thread_id", "assistant_id", "request_id"}
    for line in (claimed, started, ended):
        assert line["queue_seconds"] == pytest.approx(waited, abs=0.001)
        assert line["attempt"] == 1
        assert ":" in line["process"]


async def test_a_run_behind_another_waits_as_long_as_that_one(runs):
    thread = str(uuid7())
    first = await runs.start("beside", {"done": []}, thread_id=thread)
    await runs.run("chain", {"done": []}, thread_id=thread)
    (queued,) = [line for line in runs.lines if line["event"] == "run_queued"]
    assert queued["reason"] == "busy"
    assert 0.1 < runs.value_of("headrace_run_queue_seconds_sum", graph="chain") < within(2)
    (ended,) = runs.lines_of(first, "run_ended")
    assert ended["queue_seconds"] < within(0.1)


@pytest.mark.parametrize(
    "modes", [["values"], ["updates"], ["tasks"], ["debug"], ["checkpoints"], ["events"]]
)
async def test_the_first_event_is_the_first_that_a_node_has_caused(runs, modes):
    """Nobody listens to this run. Its first node takes 0.3 s; its input is no event."""
    seconds = 0.3
    run_id = await runs.run("chain", {"done": []}, stream_mode=modes)
    found = runs.value_of("headrace_run_first_event_seconds_sum", graph="chain")
    assert seconds <= found
    (line,) = runs.lines_of(run_id, "run_ended")
    assert line["first_event_seconds"] == pytest.approx(found, abs=0.001)
    assert line["queue_seconds"] + seconds <= found < line["queue_seconds"] + seconds + within(1)


async def test_the_age_of_the_oldest_run_is_told(runs):
    assert runs.worker.oldest_running_seconds == 0
    first = await runs.start("long", {"done": []})
    await eventually(lambda: runs.worker.oldest_running_seconds >= 0.2)
    second = await runs.start("long", {"done": []})
    assert runs.worker.oldest_running_seconds >= 0.2
    await runs.worker.cancel(ANONYMOUS, [first, second], "interrupt", "enough", "client")
    await runs.end_of(first)
    await runs.end_of(second)
    assert runs.worker.oldest_running_seconds == 0


@pytest.mark.parametrize("durability", ["async", "exit"])
async def test_a_slow_node_is_told_once_and_while_it_runs(runs, durability):
    run_id = await runs.start("slow", {"done": []}, durability=durability)
    await eventually(lambda: runs.lines_of(run_id, "node_slow"))
    running = runs.row(run_id, "status") == ("running",)
    await runs.end_of(run_id)
    (line,) = runs.lines_of(run_id, "node_slow")
    assert (line["node"], line["graph_id"], line["log_level"]) == ("slow", "slow", "warning")
    assert runs.count("headrace_slow_nodes_total", graph="slow") == 1
    if durability == "async":
        assert running
        assert 0.8 <= line["seconds"] < 2.5
    else:
        # Its checkpoints are stored at the end: until then nobody knows which node it is.
        assert line["seconds"] >= 2.5


async def test_a_later_attempt_tells_how_the_one_before_ended_and_what_it_repeats(runs, database):
    """One attempt elsewhere breaks off in the second step; its result is not stored."""
    queue = Queue(runs.resources.pool, runs.resources.writer)
    for end, began in (("lost", "after_loss"), ("release", "after_release")):
        run_id, other = await runs.start("chain", {"done": []}), register_process(database)
        await runs.end_of(run_id)
        again = replace(
            run_request(str(uuid7())), graph_id="chain", kwargs={**KWARGS, "input": {"done": []}}
        )
        attempt = await queue.start_run_if_free(again, other)
        database.execute("UPDATE runs SET created_at = created_at - interval '600 s'")
        if end == "lost":
            expire_process(database, other)
        else:
            await queue.end_if_owned(attempt.token, again.thread_id, RELEASED)
            runs.worker._roster.wake()
        await runs.end_of(again.run_id, seconds=30)
        (claimed,) = runs.lines_of(again.run_id, "run_claimed")
        assert (claimed["began"], claimed["attempt"]) == (began, 2)
        (ended,) = runs.lines_of(again.run_id, "run_ended")
        # The earlier attempt is no wait, and its events were the first ones.
        assert claimed["queue_seconds"] == ended["queue_seconds"] < 60
        assert ended["first_event_seconds"] is None
        assert runs.count("headrace_run_attempts_total", began=began) == 1
    # Neither of the two has stored anything: their first node may have been begun before.
    assert runs.count("headrace_repeated_nodes_total", graph="chain") == 2
    # Only first attempts are in the histograms.
    assert runs.count("headrace_run_queue_seconds_count", graph="chain") == 2
    assert runs.count("headrace_run_first_event_seconds_count", graph="chain") == 2


async def test_results_that_were_stored_are_not_repeated(runs):
    """A process gives its run back in the second of two steps."""
    run_id = await runs.start("slow", {"done": []}, durability="sync")
    await runs.goes_on(run_id)
    execution = runs.worker._roster.executions[run_id]
    await eventually(lambda: execution.progress.steps == 1)
    execution.ask_to_stop(Stop.RELEASED, "")
    await eventually(lambda: runs.row(run_id, "attempt") == (2,))
    await runs.end_of(run_id)
    assert runs.count("headrace_repeated_nodes_total", graph="slow") == 1
    assert runs.count("headrace_run_attempts_total", began="after_release") == 1
    assert runs.count("headrace_steps_total", graph="slow") == 3
