"""Collectors that are away, slow or not there, and callers' traces without any tracing."""

import json
import re
import signal
import sys
import time
from functools import partial
from secrets import token_hex
from statistics import median

import httpx
import psycopg
import pytest

from tests.support.live import live_server
from tests.support.otlp_receiver import otlp_receiver
from tests.support.pace import within
from tests.support.processes import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

BODY = {"assistant_id": "agent", "input": {"messages": []}}
#: Hides a package from the processes of a server.
HIDING = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "opentelemetry.sdk" or name.startswith("opentelemetry.sdk."):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Hidden())
"""


def lines(server, event):
    found = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == event]


def spans_counted(server):
    text = server.get("/metrics").text
    found = re.findall(r'headrace_spans_total\{outcome="(\w+)"\} ([\d.]+)', text)
    return {outcome: float(count) for outcome, count in found}


def run_seconds(server):
    with httpx.Client(base_url=server.url, timeout=30) as client:
        seconds = []
        for _ in range(30):
            began = time.monotonic()
            assert client.post("/runs/wait", json=BODY).status_code == 200
            seconds.append(time.monotonic() - began)
    return seconds


def test_a_tenth_of_the_traces_is_sent_chosen_by_their_ids(tmp_path, database_url):
    with (
        otlp_receiver() as receiver,
        live_server(
            tmp_path,
            database_url,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{receiver.url}/v1/traces",
            OTEL_TRACES_SAMPLER="parentbased_traceidratio",
            OTEL_TRACES_SAMPLER_ARG="0.1",
            OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_SERVICE_NAME="shop",
        ) as server,
    ):
        with httpx.Client(base_url=server.url, timeout=30) as client:
            for _ in range(100):
                client.post("/runs/wait", json=BODY)

        def answered():
            return [
                line["trace_id"]
                for line in lines(server, "request_answered")
                if line["path"] == "/runs/wait"
            ]

        wait_until(lambda: len(answered()) == 100)
        least = round(0.1 * 2**64)
        chosen = {one for one in answered() if int(one[16:], 16) < least}
        assert 0 < len(chosen) < 40
        # Whole traces: the run and its nodes follow the decision of the request.
        names = ("POST /runs/wait", "run agent", "node reply", "checkpoint")
        for trace_id in chosen:
            receiver.wait_for(*names, within=partial(receiver.of_trace, trace_id))
        runs = {span.trace_id for span in receiver.named("run agent")}
        assert runs == {span.trace_id for span in receiver.named("POST /runs/wait")} == chosen
        assert {span.service for span in receiver.spans} == {"shop"}


@pytest.mark.parametrize("collector", ["dead", "silent", "refusing"])
def test_a_bad_collector_slows_nothing_and_holds_nothing(tmp_path, database_url, collector):
    with otlp_receiver() as receiver:
        url = f"http://127.0.0.1:{free_port()}" if collector == "dead" else receiver.url
        if collector == "silent":
            receiver.answering.clear()
        receiver.status = 500 if collector == "silent" else 403
        with live_server(
            tmp_path,
            database_url,
            OTEL_EXPORTER_OTLP_ENDPOINT=url,
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
            OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_BSP_MAX_QUEUE_SIZE="64",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="32",
            HEADRACE_SERVER__DRAIN_DELAY_SECONDS="0",
        ) as server:
            assert median(run_seconds(server)) < within(0.5)
            wait_until(lambda: spans_counted(server).get("failed", 0) > 0, seconds=30)
            if collector != "refusing":
                # A queue that is full drops spans, and waits for nobody.
                run_seconds(server)
                wait_until(lambda: spans_counted(server).get("dropped", 0) > 0, seconds=30)
            failures = lines(server, "spans_not_exported")
            assert 1 <= len(failures) <= 2
            if collector == "refusing":
                assert "403" in failures[0]["reason"]
            server.signal(signal.SIGTERM)
            began = time.monotonic()
            assert server.wait_exit(20) == 0
            assert time.monotonic() - began < within(10)


def test_without_the_extra_the_log_says_what_to_install(tmp_path, database_url):
    (tmp_path / "sitecustomize.py").write_text(HIDING)
    path = ":".join([str(tmp_path), *(one for one in sys.path if one)])
    with live_server(
        tmp_path, database_url, OTEL_TRACES_EXPORTER="otlp", PYTHONPATH=path
    ) as server:
        assert httpx.post(f"{server.url}/runs/wait", json=BODY).status_code == 200
        told = lines(server, "traces_unavailable")
        # One line in each of two processes.
        assert len(told) == 2
        assert told[0]["asked_by"] == "OTEL_TRACES_EXPORTER"
        assert "pip install 'headrace[otel]'" in told[0]["remedy"]


def test_without_tracing_a_callers_trace_is_stored_and_logged(tmp_path, database_url):
    trace_id, span_id = token_hex(16), token_hex(8)
    headers = {"traceparent": f"00-{trace_id}-{span_id}-01", "tracestate": "a=1, b=2"}
    with live_server(tmp_path, database_url) as server:
        httpx.post(f"{server.url}/runs", json={**BODY, "on_completion": "keep"}, headers=headers)
        httpx.post(f"{server.url}/runs/wait", json={**BODY, "on_completion": "keep"})
        wait_until(lambda: len(lines(server, "run_ended")) == 2)
        (with_trace, without) = [line.get("trace_id") for line in lines(server, "run_ended")]
        assert {with_trace, without} == {trace_id, None}
        (answered,) = [
            line for line in lines(server, "request_answered") if line["path"] == "/runs"
        ]
        assert answered["trace_id"] == trace_id
    with psycopg.connect(database_url) as database:
        stored = {row[0] for row in database.execute("SELECT traceparent FROM runs").fetchall()}
    assert stored == {f"00-{trace_id}-{span_id}-01 a=1,b=2", None}
