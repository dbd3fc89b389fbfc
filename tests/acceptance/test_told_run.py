"""A run that waited, was rescued, asked a question and was answered: two timelines, linked."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.migrations.commands import run_headrace
from tests.support.live import LiveServer, live_server
from tests.support.pace import within
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

GRAPH = """
import asyncio
from typing import TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt


class State(TypedDict, total=False):
    seconds: float
    plan: str
    sent: bool


async def read_mail(state):
    return {"plan": "answer"}


async def write_answer(state):
    await asyncio.sleep(state["seconds"])
    return {"plan": "send"}


async def approve(state):
    return {"sent": interrupt("Send it?")}


def chain(*nodes):
    builder = StateGraph(State).add_sequence([*nodes])
    builder.add_edge(START, nodes[0].__name__)
    return builder.compile()


mail = chain(read_mail, write_answer, approve)
sleep = chain(write_answer)
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "mail.py").write_text(GRAPH)
    path = tmp_path / "langgraph.json"
    graphs = {name: f"./mail.py:{name}" for name in ("mail", "sleep")}
    path.write_text(json.dumps({"graphs": graphs}))
    return path


@pytest.fixture
def server(tmp_path: Path, database_url: str, manifest: Path) -> Iterator[LiveServer]:
    with live_server(
        tmp_path,
        database_url,
        config=manifest,
        HEADRACE_WORKER__LEASE_SECONDS="2",
        HEADRACE_WORKER__HEARTBEAT_SECONDS="0.5",
        HEADRACE_WORKER__SWEEP_SECONDS="0.2",
        HEADRACE_SERVER__GRACE_SECONDS="0",
    ) as running:
        yield running


@pytest.fixture
def client(server: LiveServer) -> Iterator[httpx.Client]:
    # A connection of its own for each request: the process of the one before may be gone.
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=server.url, timeout=30, limits=limits) as opened:
        yield opened


def begin(client: httpx.Client, thread_id: str, **body: Any) -> str:
    made = client.post(f"/threads/{thread_id}/runs", json={"durability": "sync", **body})
    return str(made.json()["run_id"])


def owner(database: psycopg.Connection[Any], run_id: str) -> int | None:
    """The pid of the process that executes the run, once it has stored a step of it."""
    row = database.execute(
        "SELECT pid FROM processes JOIN runs USING (process_id) WHERE run_id = %s"
        " AND status = 'running' AND NOT lost AND 3 = (SELECT count(*) FROM checkpoints"
        "  WHERE metadata ->> 'run_id' = runs.run_id::text)",
        (run_id,),
    ).fetchone()
    return row and row[0]


def until_ended(database: psycopg.Connection[Any], run_id: str) -> None:
    ended = "SELECT FROM runs WHERE run_id = %s AND ended_at IS NOT NULL"
    wait_until(lambda: database.execute(ended, (run_id,)).fetchone() is not None, seconds=40)


def kinds(told: Any) -> list[str]:
    return [entry["kind"] for entry in told["entries"]]


def test_it_waited_was_rescued_interrupted_and_resumed(client, database, database_url):
    thread_id = client.post("/threads", json={}).json()["thread_id"]
    runs = f"/threads/{thread_id}/runs"
    ahead = begin(client, thread_id, assistant_id="sleep", input={"seconds": 1})
    asked = begin(client, thread_id, assistant_id="mail", input={"seconds": 2})
    wait_until(lambda: owner(database, asked), seconds=30)
    killed = owner(database, asked)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    until_ended(database, asked)
    answered = begin(client, thread_id, assistant_id="mail", command={"resume": True})
    until_ended(database, answered)
    told = client.get(f"{runs}/{asked}/timeline").json()
    later = client.get(f"{runs}/{answered}/timeline").json()
    lost, last = told["attempts"]
    assert (lost["began"], lost["ended"], lost["pid"]) == ("claimed", "lost", killed)
    assert (last["began"], last["ended"]) == ("after_loss", "success")
    assert told["waited_for"] == [ahead]
    assert lost["waited_seconds"] >= 0.8
    (rescued,) = [one for one in told["entries"] if one["kind"] == "rescued"]
    # Its end was known at once, and counts as its last sign of life.
    assert 0 <= rescued["silent_seconds"] <= 3
    assert rescued["attempt"] == 1
    steps = [
        (one["nodes"], one["attempt"]) for one in told["entries"] if one["kind"] == "checkpoint"
    ]
    # The second attempt went on after the step that the first had stored.
    assert steps == [([], 1), (["__start__"], 1), (["read_mail"], 1), (["write_answer"], 2)]
    longest = told["totals"]["longest_step"]
    # The time of the rescue is not the time of the step.
    assert longest["nodes"] == ["write_answer"]
    assert 2.0 <= longest["seconds"] < 2.0 + within(1)
    totals = told["totals"]
    parts = totals["queue_seconds"] + totals["executing_seconds"] + totals["lost_seconds"]
    assert parts == pytest.approx(totals["seconds"], abs=0.01)
    assert (totals["attempts"], totals["rescues"], totals["releases"]) == (2, 1, 0)
    order = kinds(told)
    # The process has lived until its last checkpoint at least, whenever it renewed its lease.
    assert (
        lost["ended_at"] >= [one["at"] for one in told["entries"] if one["kind"] == "checkpoint"][2]
    )
    assert order.index("attempt_ended") < order.index("rescued") < order.index("interrupt")
    assert order[-2:] == ["ended", "resumed_by"]
    assert told["resumed_by"] == [answered]
    assert later["resumes"] == asked
    assert later["attempts"][0]["began"] == "in_place"

    shown = run_headrace("runs", "show", asked, "--json", database_url=database_url)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout) == told
    text = run_headrace("runs", "show", asked.upper(), database_url=database_url).stdout
    print(text)
    print(run_headrace("runs", "show", answered, database_url=database_url).stdout)
    assert f"resumed by {answered}" in text
    assert "rescued: the process of attempt 1 had been silent for" in text


def test_a_run_that_a_drain_released_says_so(client, server, database):
    thread_id = client.post("/threads", json={}).json()["thread_id"]
    run_id = begin(client, thread_id, assistant_id="mail", input={"seconds": 3})
    wait_until(lambda: owner(database, run_id), seconds=30)
    drained = owner(database, run_id)
    assert drained is not None
    os.kill(drained, signal.SIGTERM)
    path = f"/threads/{thread_id}/runs/{run_id}"
    until_ended(database, run_id)
    told = client.get(f"{path}/timeline").json()
    released, last = told["attempts"]
    assert (released["began"], released["ended"]) == ("in_place", "released")
    assert released["pid"] == drained
    assert (last["began"], last["ended"]) == ("after_release", "success")
    assert last["waited_seconds"] < within(5)
    assert "rescued" not in kinds(told)
    assert (told["totals"]["rescues"], told["totals"]["releases"]) == (0, 1)
    assert told["totals"]["lost_seconds"] == 0


def test_a_client_that_leaves_is_the_reason(client, database):
    thread_id = client.post("/threads", json={}).json()["thread_id"]
    body = {"assistant_id": "sleep", "input": {"seconds": 60}, "on_disconnect": "cancel"}
    with client.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
        next(stream.iter_lines())
        path = stream.headers["Content-Location"]
    until_ended(database, path.rpartition("/")[2])
    told = client.get(f"{path}/timeline").json()
    (asked,) = [one for one in told["entries"] if one["kind"] == "cancel_asked"]
    assert asked["reason"] == "disconnect"
    assert told["run"]["started_at"] <= asked["at"] <= told["run"]["ended_at"]
    assert told["run"]["error"]["cause"] is None
