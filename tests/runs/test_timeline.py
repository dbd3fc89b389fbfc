"""One run, told: what its timeline says of waits, steps, interrupts, failures and deletions."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from structlog.testing import capture_logs

from headrace.checkpoints.upstream import HIDDEN_NODES, PULLED
from headrace.db.statements import named_statements
from headrace.ids import uuid7
from tests.support.apps import app_client, settings_for
from tests.support.waiting import eventually

#: ``waits`` goes on when it may; ``asks`` asks twice; ``many`` has a subgraph and a fan-out;
#: ``counts`` does as many steps as it is told.
GRAPH = """
import asyncio
import operator
from pathlib import Path
from typing import Annotated, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt


class State(TypedDict, total=False):
    until: str
    steps: int
    done: Annotated[list[str], operator.add]


async def wait(state):
    path = Path(state["until"])
    path.with_suffix(".begun").touch()
    for _ in range(1000):
        if path.exists():
            break
        await asyncio.sleep(0.01)
    return {"done": ["wait"]}


async def first(state):
    return {"done": ["first"]}


async def ask(state):
    return {"done": [interrupt("who?"), interrupt("why?")]}


async def fail(state):
    raise ValueError("no luck")


class ProcessLost(Exception):
    pass


async def lose(state):
    raise ProcessLost("my process")


def broken(config):
    if config.get("configurable", {}).get("broken"):
        raise ValueError("no graph")
    return chain(first)


async def count(state):
    return {"steps": state["steps"] - 1}


def fan(state):
    return [Send("sent", state), Send("sent", state)]


async def sent(state):
    return {"done": ["sent"]}


def chain(*nodes):
    builder = StateGraph(State).add_sequence([*nodes])
    builder.add_edge(START, nodes[0].__name__)
    return builder


waits = chain(wait).compile()
asks = chain(first, ask).compile()
fails = chain(first, fail).compile()
loses = chain(lose).compile()
inner = chain(first, ask).compile()
many = StateGraph(State)
for node in (first, sent):
    many.add_node(node)
many.add_node("inner", inner)
many.add_edge(START, "first")
many.add_conditional_edges("first", fan, ["sent"])
many.add_edge("sent", "inner")
many = many.compile()
counts = StateGraph(State).add_node(count).add_edge(START, "count")
counts.add_conditional_edges("count", lambda state: "count" if state["steps"] else END)
counts = counts.compile()
"""

NAMES = ("waits", "asks", "fails", "loses", "broken", "many", "counts")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "told.py").write_text(GRAPH)
    path = tmp_path / "langgraph.json"
    path.write_text(json.dumps({"graphs": {name: f"./told.py:{name}" for name in NAMES}}))
    return path


@pytest.fixture
async def client(database_url: str, manifest: Path) -> AsyncIterator[httpx.AsyncClient]:
    settings = settings_for(database_url, manifest, worker={"recursion_limit": 2000})
    async with app_client(settings) as opened:
        yield opened


async def new_thread(client: httpx.AsyncClient) -> str:
    return str((await client.post("/threads", json={})).json()["thread_id"])


async def begin(client: httpx.AsyncClient, thread_id: str, **body: Any) -> str:
    made = await client.post(f"/threads/{thread_id}/runs", json=body)
    assert made.status_code == 200, made.text
    return str(made.json()["run_id"])


async def run(client: httpx.AsyncClient, thread_id: str, **body: Any) -> str:
    """The id of a run that has ended."""
    run_id = await begin(client, thread_id, **body)
    await client.get(f"/threads/{thread_id}/runs/{run_id}/join")
    return run_id


async def timeline(client: httpx.AsyncClient, thread_id: str, run_id: str, **query: Any) -> Any:
    answer = await client.get(f"/threads/{thread_id}/runs/{run_id}/timeline", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def kinds(told: Any) -> list[str]:
    return [entry["kind"] for entry in told["entries"]]


def steps(told: Any, namespace: str = "") -> list[tuple[int, list[str]]]:
    return [
        (one["step"], one["nodes"])
        for one in told["entries"]
        if one["kind"] == "checkpoint" and one["checkpoint_ns"].partition(":")[0] == namespace
    ]


async def test_a_run_in_place_is_told_from_its_start_to_its_end(client):
    thread_id = await new_thread(client)
    run_id = await run(
        client, thread_id, assistant_id="fails", input={"done": []}, durability="sync"
    )
    told = await timeline(client, thread_id, run_id)
    assert kinds(told) == [
        "created",
        "attempt_began",
        *["checkpoint"] * 3,
        "attempt_ended",
        "ended",
    ]
    (attempt,) = told["attempts"]
    assert (attempt["attempt"], attempt["began"], attempt["ended"]) == (1, "in_place", "error")
    assert attempt["waited_seconds"] == 0
    assert attempt["pid"] is not None
    assert steps(told) == [(-1, []), (0, ["__start__"]), (1, ["first"])]
    error = {"error": "ValueError", "message": "no luck", "cause": "graph"}
    assert told["run"]["error"] == told["entries"][-1]["error"] == error
    totals = told["totals"]
    assert (totals["attempts"], totals["checkpoints"], totals["steps"]) == (1, 3, 2)
    shown = [one for one in told["entries"] if one["kind"] == "checkpoint"]
    assert totals["checkpoint_bytes"] == sum(sum(one["bytes"].values()) for one in shown)
    assert all(one["bytes"]["checkpoint"] > 0 for one in shown)
    # Steps and what came after them are the whole attempt.
    whole = sum(one["seconds"] for one in shown) + totals["after_last_checkpoint_seconds"]
    assert whole == pytest.approx(totals["executing_seconds"], abs=0.02)
    assert totals["queue_seconds"] == totals["lost_seconds"] == 0
    assert told["truncated"] is told["checkpoints_deleted"] is False


@pytest.mark.parametrize("cause", [None, "a_later_release_s"])
async def test_the_cause_of_an_error_of_another_release_may_be_unknown(client, database_url, cause):
    thread_id = await new_thread(client)
    run_id = await run(client, thread_id, assistant_id="fails", input={"done": []})
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE runs SET error_cause = %s", (cause,))
    told = await timeline(client, thread_id, run_id)
    assert told["run"]["error"] == {"error": "ValueError", "message": "no luck", "cause": None}


@pytest.mark.parametrize(
    ("graph_id", "name", "cause"),
    [("loses", "ProcessLost", "graph"), ("broken", "ValueError", "platform")],
)
async def test_the_cause_of_an_error_is_that_of_the_log(client, graph_id, name, cause):
    thread_id = await new_thread(client)
    body = {"input": {"done": []}, "config": {"configurable": {"broken": True}}}
    with capture_logs() as lines:
        run_id = await run(client, thread_id, assistant_id=graph_id, **body)
    error = (await timeline(client, thread_id, run_id))["run"]["error"]
    assert (error["error"], error["cause"]) == (name, cause)
    assert [one["cause"] for one in lines if one["event"] == "run_ended"] == [cause]


async def test_bytes_are_those_of_the_tables(client, database_url):
    thread_id = await new_thread(client)
    run_id = await run(
        client, thread_id, assistant_id="many", input={"done": ["x" * 5000]}, durability="sync"
    )
    told = await timeline(client, thread_id, run_id)
    with psycopg.connect(database_url) as database:
        row = database.execute(
            "SELECT (SELECT sum(pg_column_size(checkpoint) + pg_column_size(metadata))"
            " FROM checkpoints),"
            " (SELECT sum(pg_column_size(blob)) FROM checkpoint_blobs),"
            " (SELECT sum(pg_column_size(blob)) FROM checkpoint_writes)"
        ).fetchone()
    assert row is not None
    assert told["totals"]["checkpoint_bytes"] == sum(row)


async def test_nodes_of_sends_and_subgraphs_are_named(client):
    thread_id = await new_thread(client)
    run_id = await run(
        client, thread_id, assistant_id="many", input={"done": []}, durability="sync"
    )
    told = await timeline(client, thread_id, run_id)
    assert steps(told)[1:] == [(0, ["__start__"]), (1, ["first"]), (2, ["sent"])]
    assert steps(told, "inner") == [(-1, []), (0, ["__start__"]), (1, ["first"])]
    (entry,) = [one for one in told["entries"] if one["kind"] == "interrupt"]
    assert entry["node"] == "inner"


async def test_a_run_with_one_checkpoint_at_its_end_names_all_its_nodes(client):
    thread_id = await new_thread(client)
    run_id = await run(
        client, thread_id, assistant_id="asks", input={"done": []}, durability="exit"
    )
    told = await timeline(client, thread_id, run_id)
    assert steps(told) == [(1, ["__start__", "first"])]
    assert told["checkpoints_deleted"] is False


@pytest.mark.parametrize("graph_id", ["asks", "fails"])
async def test_an_input_names_no_node_that_it_gives_up(client, graph_id):
    thread_id = await new_thread(client)
    await run(client, thread_id, assistant_id=graph_id, input={"done": []})
    given_up = await run(client, thread_id, assistant_id=graph_id, input={"done": []})
    told = await timeline(client, thread_id, given_up)
    assert [nodes for _, nodes in steps(told)] == [[], ["__start__"], ["first"]]


async def test_a_fork_of_history_names_no_node(client):
    thread_id = await new_thread(client)
    await run(client, thread_id, assistant_id="fails", input={"done": []})
    history = (await client.get(f"/threads/{thread_id}/history?limit=9")).json()
    (before,) = [one for one in history if one["next"] == ["first"]]
    checkpoint_id = before["checkpoint"]["checkpoint_id"]
    again = await run(
        client, thread_id, assistant_id="fails", input=None, checkpoint_id=checkpoint_id
    )
    told = await timeline(client, thread_id, again)
    sources = [(one["source"], one["nodes"]) for one in told["entries"] if "nodes" in one]
    assert sources == [("fork", []), ("loop", ["first"])]


async def test_a_delayed_run_that_was_stopped_is_made_before_it_ends(client):
    thread_id = await new_thread(client)
    run_id = await begin(
        client, thread_id, assistant_id="asks", input={"done": []}, after_seconds=3600
    )
    await client.post(f"/threads/{thread_id}/runs/{run_id}/cancel")
    told = await timeline(client, thread_id, run_id)
    assert kinds(told) == ["created", "cancel_asked", "ended"]


async def test_runs_that_ask_and_answer_are_linked(client):
    thread_id = await new_thread(client)
    asked = await run(client, thread_id, assistant_id="asks", input={"done": []})
    first = (await client.get(f"/threads/{thread_id}")).json()["interrupts"]
    again = await run(client, thread_id, assistant_id="asks", command={"resume": "a"})
    second = (await client.get(f"/threads/{thread_id}")).json()["interrupts"]
    answered = await run(client, thread_id, assistant_id="asks", command={"resume": "b"})
    other = await run(client, thread_id, assistant_id="fails", input={"done": []})
    told = [await timeline(client, thread_id, one) for one in (asked, again, answered, other)]
    assert [one["resumes"] for one in told] == [None, asked, again, None]
    assert [one["resumed_by"] for one in told] == [[again], [answered], [], []]
    for one, interrupts in zip(told[:2], (first, second), strict=True):
        ((shown,),) = interrupts.values()
        (entry,) = [entry for entry in one["entries"] if entry["kind"] == "interrupt"]
        assert (entry["id"], entry["node"]) == (shown["id"], "ask")
        assert kinds(one)[-2:] == ["ended", "resumed_by"]
    # The second run has asked in the same step again, and stored no checkpoint of its own.
    assert told[1]["totals"]["checkpoints"] == 0
    assert not any(one["checkpoints_deleted"] for one in told)
    assert "interrupt" not in kinds(told[2])


async def test_an_interrupt_before_a_node_has_no_id(client):
    thread_id = await new_thread(client)
    body = {"assistant_id": "asks", "input": {"done": []}, "interrupt_before": ["ask"]}
    stopped = await run(client, thread_id, **body)
    going_on = await run(client, thread_id, assistant_id="asks", input=None)
    told = await timeline(client, thread_id, stopped)
    (entry,) = [one for one in told["entries"] if one["kind"] == "interrupt"]
    assert (entry["id"], entry["node"]) == (None, "ask")
    assert told["resumed_by"] == [going_on]


async def test_a_run_that_waited_says_for_how_long_and_for_which_runs(client, tmp_path):
    thread_id = await new_thread(client)
    until = tmp_path / "may_end"
    ahead = await begin(client, thread_id, assistant_id="waits", input={"until": str(until)})
    behind = await begin(client, thread_id, assistant_id="fails", input={"done": []})
    waiting = await timeline(client, thread_id, behind)
    assert kinds(waiting) == ["created"]
    assert waiting["waited_for"] == [ahead]
    assert waiting["totals"]["queue_seconds"] == waiting["totals"]["seconds"] > 0
    running = await timeline(client, thread_id, ahead)
    assert running["attempts"][0]["ended"] is running["run"]["ended_at"] is None
    assert running["totals"]["executing_seconds"] > 0
    until.touch()
    await client.get(f"/threads/{thread_id}/runs/{behind}/join")
    told = await timeline(client, thread_id, behind)
    (attempt,) = told["attempts"]
    assert attempt["began"] == "claimed"
    assert told["waited_for"] == [ahead]
    assert told["totals"]["queue_seconds"] == attempt["waited_seconds"] > 0
    ended_at = (await timeline(client, thread_id, ahead))["run"]["ended_at"]
    assert attempt["started_at"] >= ended_at


async def test_a_thousand_steps_are_paged(client):
    thread_id = await new_thread(client)
    run_id = await run(
        client,
        thread_id,
        assistant_id="counts",
        input={"steps": 1000},
        config={"recursion_limit": 1100},
    )
    path = f"/threads/{thread_id}/runs/{run_id}/timeline"
    seen: list[str] = []
    offset: str | None = "0"
    while offset is not None:
        answer = await client.get(path, params={"limit": 400, "offset": offset})
        page = answer.json()
        ids = [one["checkpoint_id"] for one in page["entries"] if one["kind"] == "checkpoint"]
        assert page["truncated"] is True
        assert page["totals"]["checkpoints"] == 1002
        assert page["totals"]["steps"] == 1001
        assert page["totals"]["longest_step"]["seconds"] > 0
        seen = ids + seen
        offset = answer.headers.get("X-Pagination-Next")
    assert len(seen) == 1002
    assert seen == sorted(set(seen))
    assert len(steps(await timeline(client, thread_id, run_id))) == 100
    assert steps(await timeline(client, thread_id, run_id, limit=0)) == []
    for wrong in ({"limit": 1001}, {"limit": -1}, {"offset": -1}):
        assert (await client.get(path, params=wrong)).status_code == 422


def most_rows(plan: dict[str, Any]) -> Any:
    """The most rows that one node of a plan has handed on, all its loops together."""
    own = plan["Actual Rows"] * plan["Actual Loops"]
    return max([own, *map(most_rows, plan.get("Plans", ()))])


async def test_a_checkpoint_is_not_compared_with_all_others(client, database_url):
    """The tables have no statistics yet, as those of a new thread."""
    thread_id = await new_thread(client)
    run_id = await run(client, thread_id, assistant_id="counts", input={"steps": 300})
    values = {
        "thread_id": thread_id,
        "run_id": run_id,
        "attempts": [],
        "started": [],
        "limit": 1000,
        "offset": 0,
        "most": 10_000,
        "json_bytes": 65536,
        "only_last": False,
        "pull": PULLED,
        "hidden": list(HIDDEN_NODES),
    }
    steps_sql = named_statements("headrace.checkpoints", "run_checkpoints.sql")["checkpoints"]
    with psycopg.connect(database_url, autocommit=True) as database:
        explained = database.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + steps_sql, values)
        ((found,),) = explained.fetchall()
    assert most_rows(found[0]["Plan"]) < 30 * 302


async def test_no_timeline_where_there_is_no_run(client):
    thread_id = await new_thread(client)
    run_id = await run(client, thread_id, assistant_id="fails", input={"done": []})
    other = await new_thread(client)
    for thread, one in (
        (thread_id, str(uuid7())),
        (thread_id, "no-uuid"),
        (other, run_id),
        (str(uuid7()), run_id),
        ("no-uuid", run_id),
    ):
        path = f"/threads/{thread}/runs/{one}"
        expected, answer = await client.get(path), await client.get(f"{path}/timeline")
        assert answer.status_code in (404, 422)
        assert (answer.status_code, answer.json()) == (expected.status_code, expected.json())


async def test_a_timeline_that_takes_too_long_says_what_to_do(database, database_url, manifest):
    settings = settings_for(database_url, manifest, requests={"list_timeout_seconds": 0.2})
    async with app_client(settings) as client:
        thread_id = await new_thread(client)
        run_id = await run(client, thread_id, assistant_id="counts", input={"steps": 1})
        with database.transaction():
            database.execute("LOCK TABLE checkpoints IN ACCESS EXCLUSIVE MODE")
            answer = await client.get(f"/threads/{thread_id}/runs/{run_id}/timeline")
    assert (answer.status_code, answer.json()["code"]) == (503, "statement_too_slow")
    assert answer.headers["retry-after"] == "5"


async def test_a_temporary_thread_is_gone_with_its_run(client):
    made = await client.post("/runs/wait", json={"assistant_id": "counts", "input": {"steps": 1}})
    path = made.headers["Content-Location"]

    async def gone():
        return (await client.get(path)).status_code == 404

    await eventually(gone)
    assert (await client.get(f"{path}/timeline")).status_code == 404


async def test_deleted_checkpoints_are_not_silently_missing(client):
    thread_id = await new_thread(client)
    run_id = await run(client, thread_id, assistant_id="counts", input={"steps": 3})
    assert (await timeline(client, thread_id, run_id))["checkpoints_deleted"] is False
    body = {"thread_ids": [thread_id], "strategy": "keep_latest"}
    assert (await client.post("/threads/prune", json=body)).json() == {"pruned_count": 1}
    told = await timeline(client, thread_id, run_id)
    assert told["checkpoints_deleted"] is True
    assert "checkpoints_deleted" in kinds(told)
    assert [number for number, _ in steps(told)] == [3]


async def test_a_reader_and_a_deletion_do_not_disturb_each_other(client):
    for _ in range(10):
        thread_id = await new_thread(client)
        run_id = await run(client, thread_id, assistant_id="counts", input={"steps": 2})
        path = f"/threads/{thread_id}/runs/{run_id}/timeline"
        reads = [client.get(path) for _ in range(4)]
        *answers, deleted = await asyncio.gather(*reads, client.delete(f"/threads/{thread_id}"))
        assert deleted.status_code == 204
        for answer in answers:
            assert answer.status_code in (200, 404), answer.text
            if answer.status_code == 200:
                # One snapshot: with the run, all its checkpoints are there.
                assert answer.json()["totals"]["checkpoints"] == 4


async def test_a_row_of_an_older_release_says_what_is_not_known(client, database_url):
    thread_id = await new_thread(client)
    run_id = await run(client, thread_id, assistant_id="counts", input={"steps": 1})
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute(
            "UPDATE runs SET attempt = 3, cancel_action = 'interrupt', earlier_attempts = NULL,"
            " interrupts = NULL, process_id = %s",
            (uuid7(),),
        )
    told = await timeline(client, thread_id, run_id)
    assert told["unrecorded_attempts"] == 2
    (attempt,) = told["attempts"]
    assert (attempt["attempt"], attempt["began"], attempt["hostname"]) == (3, None, None)
    assert attempt["waited_seconds"] is None
    (asked,) = [one for one in told["entries"] if one["kind"] == "cancel_asked"]
    assert (asked["at"], asked["reason"]) == (None, None)


async def test_events_tokens_and_trace_are_told(client, database_url):
    thread_id = await new_thread(client)
    run_id = await run(
        client, thread_id, assistant_id="counts", input={"steps": 2}, stream_resumable=True
    )
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute(
            "UPDATE runs SET traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7'"
            " || '-01'"
        )
        for model, calls in (("a", 1), ("b", 2)):
            database.execute(
                "INSERT INTO run_usage (run_id, attempt, model, thread_id, assistant_id, graph_id,"
                " calls, input_tokens, output_tokens) VALUES (%s, 1, %s, %s, %s, 'g', %s, 10, 5)",
                (run_id, model, thread_id, uuid7(), calls),
            )
        row = database.execute("SELECT count(*), sum(length(data)) FROM run_events").fetchone()
    assert row is not None
    told = await timeline(client, thread_id, run_id)
    assert told["run"]["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    totals = told["totals"]
    assert totals["tokens"] == {"calls": 3, "input": 20, "output": 10, "cached": 0, "reasoning": 0}
    assert (totals["events"], totals["event_bytes"]) == row
    (entry,) = [one for one in told["entries"] if one["kind"] == "events"]
    assert (entry["count"], entry["bytes"]) == row
    assert entry["at"] <= entry["until"]
