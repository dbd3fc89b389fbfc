"""Traces of real server processes, as a collector gets them."""

import json
import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import psycopg
import pytest

from tests.support.live import LiveServer, live_server
from tests.support.otlp_receiver import (
    CLIENT,
    ERROR,
    SERVER,
    drawn,
    forest,
    otlp_receiver,
    without,
)
from tests.support.processes import server as app_server
from tests.support.sources import page
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

GRAPHS = Path(__file__).parents[1] / "support" / "graphs" / "traced.json"
#: A lease that is over soon, so that a lost run goes on soon.
SHORT_LEASE: dict[str, Any] = {
    "HEADRACE_WORKER__LEASE_SECONDS": "3",
    "HEADRACE_WORKER__HEARTBEAT_SECONDS": "0.5",
    "HEADRACE_WORKER__SWEEP_SECONDS": "0.5",
}


class OneProcess(LiveServer):
    def wait_ready(self, processes: int = 1) -> None:
        super().wait_ready(processes)


class Caller:
    """Somebody who has a trace of his own."""

    def __init__(self, *, sampled: bool = True) -> None:
        self.trace_id, self.span_id = token_hex(16), token_hex(8)
        self.traceparent = f"00-{self.trace_id}-{self.span_id}-{'01' if sampled else '00'}"
        self.headers = {"traceparent": self.traceparent, "tracestate": "vendor=x"}


def run_body(graph: str, **more: Any) -> dict[str, Any]:
    return {"assistant_id": graph, "input": {}, **more}


def lines_of(server: LiveServer, **fields: Any) -> list[dict[str, Any]]:
    """Log lines with these fields."""
    found = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [line for line in found if fields.items() <= line.items()]


def new_thread(client: httpx.Client) -> str:
    return str(client.post("/threads", json={}).json()["thread_id"])


@pytest.fixture(scope="module")
def receiver():
    with otlp_receiver() as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory, module_database, receiver):
    with live_server(
        tmp_path_factory.mktemp("server"),
        module_database,
        config=GRAPHS,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_EXPORTER_OTLP_HEADERS="x-tenant=blue",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
        OTEL_BSP_SCHEDULE_DELAY="50",
        HEADRACE_CHAT_GRAPH="agent",
        **SHORT_LEASE,
    ) as found:
        yield found


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server.url, timeout=30) as found:
        yield found


@pytest.fixture
def traced(receiver):
    """Spans of a trace, as soon as each of some names is among them."""

    def wait(trace_id, *names):
        return receiver.wait_for(*names, within=lambda: receiver.of_trace(trace_id))

    return wait


def test_one_request_is_one_tree_with_all_that_it_has_done(client, traced, receiver):
    caller = Caller()
    url = "/runs/wait?note=not-for-spans"
    answer = client.post(url, json=run_body("traced"), headers=caller.headers).json()
    spans = traced(caller.trace_id, "POST /runs/wait", "run traced")
    model, own = ("chat unknown", ()), ("of the thread", ())
    tool = ("execute_tool look_up", (("the tool's own", ()),))
    # A span of the user's after a model call is not below that call.
    talk = ("node talk", (model, ("the user's own", (tool,))))
    rest = (
        ("node thread", (model, own)),
        ("node subgraph", (("node inside", (model, own)),)),
    )
    assert without("checkpoint", forest(spans)) == [
        ("POST /runs/wait", (("run traced", (talk, *rest)),))
    ]
    by_name = {span.name: span for span in spans}
    request, run = by_name["POST /runs/wait"], by_name["run traced"]
    assert (request.parent_id, request.kind, request.status) == (caller.span_id, SERVER, 0)
    assert request.attributes["http.route"] == "/runs/wait"
    assert request.attributes["http.response.status_code"] == 200
    assert run.attributes["headrace.run.status"] == "success"
    assert run.attributes["headrace.attempt"] == 1
    assert (request.service, request.resource["deployment.environment.name"]) == (
        "headrace",
        "test",
    )
    called = by_name["chat unknown"]
    assert called.kind == CLIENT
    assert {key: value for key, value in called.attributes.items() if "gen_ai" in key} == {
        "gen_ai.conversation.id": run.attributes["headrace.thread_id"],
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "genericfakechatmodel",
        "gen_ai.request.model": "unknown",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.model": "fake-2",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
    }
    # What a node sends to other services leads them to the span that was current there.
    assert by_name["the user's own"].span_id in answer["said"][1]
    assert "not-for-spans" not in repr(spans)
    assert receiver.headers[-1]["x-tenant"] == "blue"


def test_checkpoints_last_until_they_are_committed(client, traced):
    caller = Caller()
    client.post("/runs/wait", json=run_body("agent"), headers=caller.headers)
    spans = traced(caller.trace_id, "run agent")
    puts = [span for span in spans if span.name == "checkpoint"]
    assert [put.attributes["headrace.step"] for put in puts] == [-1, 0, 1]
    for put in puts:
        assert put.attributes["headrace.checkpoint.bytes"] > 100
        assert put.attributes["headrace.flush.operations"] >= 1
    (run,) = [span for span in spans if span.name == "run agent"]
    assert {put.parent_id for put in puts} == {run.span_id}
    assert max(put.ended for put in puts) <= run.ended


def test_parallel_nodes_do_not_mix(client, traced):
    caller = Caller()
    client.post("/runs/wait", json=run_body("parallel"), headers=caller.headers)
    spans = traced(caller.trace_id, "POST /runs/wait", "run parallel")
    model = ("chat unknown", ())
    assert without("checkpoint", forest(spans)) == [
        (
            "POST /runs/wait",
            (
                (
                    "run parallel",
                    tuple(
                        (f"node {name}", (model, model, (f"own of {name}", ())))
                        for name in ("left", "middle", "right")
                    ),
                ),
            ),
        )
    ]


def test_a_background_run_goes_on_in_the_trace_of_its_request(client, traced, server):
    caller = Caller()
    thread_id = new_thread(client)
    url = f"/threads/{thread_id}/runs"
    body = run_body("agent", after_seconds=1)
    run_id = client.post(url, json=body, headers=caller.headers).json()["run_id"]
    spans = traced(caller.trace_id, "run agent", "queue wait")
    assert without("checkpoint", forest(spans)) == [
        (
            "POST /threads/{thread_id}/runs",
            (("queue wait", ()), ("run agent", (("node reply", ()),))),
        )
    ]
    # Logs and traces join.
    assert lines_of(server, event="run_ended", run_id=run_id, trace_id=caller.trace_id)
    assert lines_of(server, event="request_answered", trace_id=caller.trace_id)


def test_chat_is_traced_like_other_runs(client, traced):
    caller = Caller()
    client.post("/chat", json={"message": "hi"}, headers=caller.headers)
    spans = traced(caller.trace_id, "POST /chat", "run agent")
    run = ("run agent", (("node reply", ()),))
    assert without("checkpoint", forest(spans)) == [("POST /chat", (run,))]


def test_the_span_of_a_stream_lasts_as_long_as_the_stream(client, traced):
    caller = Caller()
    body = run_body("slow", input={"seconds": 0.1})
    assert client.post("/runs/stream", json=body, headers=caller.headers).status_code == 200
    spans = {span.name: span for span in traced(caller.trace_id, "POST /runs/stream", "run slow")}
    assert spans["POST /runs/stream"].ended >= spans["run slow"].ended


def test_a_failed_run_is_an_error_and_its_request_is_none(client, traced):
    caller = Caller()
    client.post("/runs/wait", json=run_body("boom", input={"topic": "x"}), headers=caller.headers)
    by_name = {span.name: span for span in traced(caller.trace_id, "POST /runs/wait", "run boom")}
    for name in ("run boom", "node boom"):
        assert by_name[name].status == ERROR
        assert by_name[name].message == "ValueError: kaboom in node"
        assert by_name[name].attributes["error.type"] == "ValueError"
    assert by_name["POST /runs/wait"].status == 0


def test_a_cancelled_run_is_no_error(client, traced):
    caller = Caller()
    thread_id = new_thread(client)
    body = run_body("slow", input={"seconds": 60})
    url = f"/threads/{thread_id}/runs"
    run_id = client.post(url, json=body, headers=caller.headers).json()["run_id"]
    wait_until(lambda: client.get(f"{url}/{run_id}").json()["status"] == "running")
    client.post(f"{url}/{run_id}/cancel?wait=true")
    spans = traced(caller.trace_id, "run slow")
    assert [span.status for span in spans] == [0] * len(spans)
    (run,) = [span for span in spans if span.name == "run slow"]
    assert run.attributes["headrace.run.status"] == "interrupted"


def test_probes_and_who_watches_health_leave_no_traces(client, traced, receiver):
    watching, caller = Caller(), Caller()
    for path in ("/health", "/readyz", "/ok"):
        assert client.get(path, headers=watching.headers).status_code == 200
    client.get("/info", headers=caller.headers)
    traced(caller.trace_id, "GET /info")
    assert receiver.of_trace(watching.trace_id) == []


def test_a_request_that_is_refused_is_no_error(client, traced):
    caller = Caller()
    client.get("/threads/none", headers=caller.headers)
    (span,) = traced(caller.trace_id, "GET /threads/{thread_id}")
    assert (span.attributes["http.response.status_code"], span.status) == (422, 0)


def test_callers_who_do_not_sample_are_honoured(client, traced, receiver):
    quiet, caller = Caller(sampled=False), Caller()
    answer = client.post("/runs/wait", json=run_body("traced"), headers=quiet.headers).json()
    # Services that the node calls do not sample either.
    version, trace_id, _, flags = answer["said"][1].split("-")
    assert (version, trace_id, flags) == ("00", quiet.trace_id, "00")
    client.get("/threads/none", headers=caller.headers)
    traced(caller.trace_id, "GET /threads/{thread_id}")
    assert receiver.of_trace(quiet.trace_id) == []


@pytest.mark.parametrize(
    "traceparent", ["00-0-0-01", f"00-{'0' * 32}-{'1' * 16}-01", "", "ff-" + "1" * 52, "x" * 10_000]
)
def test_a_malformed_traceparent_begins_a_new_trace(client, receiver, traceparent):
    request_id = token_hex(8)
    headers = {"traceparent": traceparent, "x-request-id": request_id}
    assert client.post("/runs/wait", json=run_body("agent"), headers=headers).status_code == 200

    def roots():
        return [
            span
            for span in receiver.named("POST /runs/wait")
            if span.attributes["headrace.request_id"] == request_id
        ]

    wait_until(roots)
    assert roots()[0].parent_id == ""


def test_an_answer_from_a_caller_with_a_trace_links_the_run_to_its_request(client, traced):
    thread_id = new_thread(client)
    url = f"/threads/{thread_id}/runs/wait"
    asking, answering = Caller(), Caller()
    client.post(url, json=run_body("approval"), headers=asking.headers)
    body = {"assistant_id": "approval", "command": {"resume": "yes"}}
    client.post(url, json=body, headers=answering.headers)
    (request,) = traced(answering.trace_id, "POST /threads/{thread_id}/runs/wait")
    assert request.parent_id == answering.span_id
    spans = traced(asking.trace_id, "resume", "run approval")
    (resume,) = [span for span in spans if span.name == "resume"]
    assert resume.links == ((answering.trace_id, request.span_id),)
    resumed = [span for span in spans if span.parent_id == resume.span_id]
    assert [span.name for span in resumed] == ["run approval"]


TREE = """\
POST /threads/{thread_id}/runs
├─ queue wait
├─ run approval  (attempt 1, lost, ERROR)
│  ├─ checkpoint  (input)
│  ├─ checkpoint  (loop)
│  ├─ node prepare
│  └─ checkpoint  (loop)
├─ queue wait
├─ run approval  (attempt 2, success, interrupt)
│  ├─ node work
│  ├─ checkpoint  (loop)
│  └─ node approve  (interrupt)
└─ POST /threads/{thread_id}/runs/wait
   └─ run approval  (attempt 1, success)
      ├─ node approve
      └─ checkpoint  (loop)"""


def test_a_run_that_waited_was_lost_interrupted_and_resumed_is_one_trace(
    client, server, receiver, module_database
):
    url = f"{server.url}/threads/{new_thread(client)}/runs"
    body = run_body("approval", input={"seconds": 2}, durability="sync", after_seconds=1)
    run_id = httpx.post(url, json=body).json()["run_id"]
    with psycopg.connect(module_database, autocommit=True) as database:
        ((traceparent,),) = database.execute(
            "SELECT traceparent FROM runs WHERE run_id = %s", (run_id,)
        ).fetchall()
        trace_id = traceparent.split("-")[1]
        # The second node is under way, and the collector has all that was traced before it.
        wait_until(lambda: len(receiver.of_trace(trace_id)) == 6, seconds=20)
        ((pid,),) = database.execute(
            "SELECT pid FROM processes JOIN runs USING (process_id) WHERE run_id = %s", (run_id,)
        ).fetchall()
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: httpx.get(f"{url}/{run_id}").json()["status"] == "success", seconds=40)
    answer = {"assistant_id": "approval", "command": {"resume": "yes"}}
    assert httpx.post(f"{url}/wait", json=answer).json()["said"][-1] == "yes"
    request = "POST /threads/{thread_id}/runs/wait"
    spans = receiver.wait_for(request, within=lambda: receiver.of_trace(trace_id))
    print(drawn(spans))
    assert drawn(spans) == TREE
    # The names of the picture stand in the docs.
    assert TREE in page("tracing.md")
    # The lost attempt ended when its process was last seen, and the logs have the trace's id.
    first, second = [span for span in spans if span.name == "run approval"][:2]
    assert first.ended <= second.started
    assert lines_of(server, event="run_ended", run_id=run_id, trace_id=trace_id)


def test_in_an_app_of_your_own_its_span_is_the_parent(tmp_path, database_url, receiver):
    """FastAPI traces requests by itself; the app has no middleware of headrace."""
    environment = {"DATABASE_URL": database_url, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
    caller = Caller()
    with app_server(tmp_path, **environment, OTEL_BSP_SCHEDULE_DELAY="50") as app:
        app.wait_ready()
        body = run_body("slow", input={"seconds": 0.01})
        with httpx.Client(base_url=app.url, timeout=30) as client:
            client.post("/runs/wait", json=body, headers=caller.headers)
        spans = receiver.wait_for(
            "POST /runs/wait", "run slow", within=lambda: receiver.of_trace(caller.trace_id)
        )
    parents = {span.span_id: span for span in spans}
    (run,) = [span for span in spans if span.name == "run slow"]
    chain = [run.name]
    while run.parent_id in parents:
        run = parents[run.parent_id]
        chain.append(run.name)
    assert chain == ["run slow", "fastapi.endpoint", "POST /runs/wait"]
    assert run.parent_id == caller.span_id


def test_a_released_run_goes_on_elsewhere_and_is_no_error(tmp_path, database_url, receiver):
    """Three pods: one only answers and has no traces, one drains, one goes on."""
    tracing = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
    # Longer than the test: what is left is sent when a process ends.
    tracing |= {"OTEL_BSP_SCHEDULE_DELAY": "600000"}
    quick = {"HEADRACE_SERVER__DRAIN_DELAY_SECONDS": "0", "HEADRACE_SERVER__GRACE_SECONDS": "0"}
    one = {"HEADRACE_PROCESSES": "1"}
    tracing |= one
    caller = Caller()

    def pod(name: str, **environment: Any) -> AbstractContextManager[LiveServer]:
        (tmp_path / name).mkdir()
        return live_server(
            tmp_path / name, database_url, config=GRAPHS, kind=OneProcess, **environment
        )

    with pod("answering", **one, HEADRACE_WORKER__ENABLED="false") as answering:
        with httpx.Client(base_url=answering.url) as client:
            url = f"{answering.url}/threads/{new_thread(client)}/runs"
        body = run_body("slow", input={"seconds": 1.5}, durability="sync")
        run_url = f"{url}/{httpx.post(url, json=body, headers=caller.headers).json()['run_id']}"

        def status() -> str:
            return str(httpx.get(run_url).json()["status"])

        with pod("draining", **tracing, **quick) as draining:
            wait_until(lambda: status() == "running")
            draining.signal(signal.SIGTERM)
            assert draining.wait_exit(20) == 0
        assert status() == "pending"
        with pod("going-on", **tracing, **quick) as going_on:
            wait_until(lambda: status() == "success", seconds=30)
            going_on.signal(signal.SIGTERM)
            assert going_on.wait_exit(20) == 0
    spans = receiver.wait_for("run slow", within=lambda: receiver.of_trace(caller.trace_id))
    attempts = sorted(
        (span for span in spans if span.name == "run slow"), key=lambda span: span.started
    )
    assert [
        (one.attributes["headrace.attempt"], one.attributes["headrace.run.status"], one.status)
        for one in attempts
    ] == [(1, "pending", 0), (2, "success", 0)]
    # The pod without traces has stored what the caller has sent.
    assert {one.parent_id for one in attempts} == {caller.span_id}
    assert ERROR not in {span.status for span in spans}
