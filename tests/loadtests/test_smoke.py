"""The load test against real servers: what it says of a right one, and of wrong ones."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.live import live_server
from tests.support.load import load

pytestmark = pytest.mark.acceptance

BROKEN = Path(__file__).with_name("broken.py")
STREAMED = ("/chat/stream", "/runs/stream")


@pytest.fixture(scope="module")
def passed(module_database, tmp_path_factory):
    """What the profile says of headrace with its built-in graph."""
    folder = tmp_path_factory.mktemp("load")
    with live_server(folder, module_database, config=None) as server:
        return load(server.url, folder)


def test_a_right_server_passes(passed):
    assert passed.code == 0, passed.printed
    assert passed.result["failures"] == []
    assert set(passed.entries("failures").values()) == {0}
    assert passed.result["conversations"]["completed"] >= 1


def test_streams_are_measured_to_the_first_event_and_to_the_end(passed):
    requests = passed.entries("requests")
    for name in STREAMED:
        assert requests[f"SSE {name} first event"] == requests[f"SSE {name} end"] > 0
        first, end = (passed.entries("p50_ms")[f"SSE {name} {w}"] for w in ("first event", "end"))
        assert 0 < first <= end
        assert f"SSE {name} first event" in passed.printed


def test_the_servers_own_figures_are_those_of_the_test(passed):
    requests = passed.entries("requests")
    turns = requests["POST /chat"] + sum(requests[f"SSE {name} end"] for name in STREAMED)
    told = passed.result["server"]
    assert told["runs_by_status"] == {"success": turns}
    assert told["checkpoint"]["count"] >= turns
    assert told["checkpoint"]["p95_ms"] >= told["checkpoint"]["p50_ms"] > 0
    assert told["pool_wait"]["count"] > 0
    assert told["pool_timeouts"] == 0
    assert len(told["health_after"]["processes"]) == 2


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        ("raising", ["HTTP 500", "kaboom in node", "error event"]),
        ("forgetful", ["wrong reply to 'Hi, my name is"]),
    ],
)
def test_a_wrong_server_fails(graph, said, database_url, tmp_path):
    manifest = tmp_path / "langgraph.json"
    graphs = {"graphs": {"chat": f"{BROKEN}:{graph}"}, "dependencies": ["."]}
    manifest.write_text(json.dumps(graphs))
    with live_server(tmp_path, database_url, config=manifest) as server:
        outcome = load(server.url, tmp_path, LOAD_USERS="3", LOAD_SECONDS="3")
    assert outcome.code == 1
    failures = outcome.entries("failures")
    doors = ("POST /chat", "SSE /chat/stream end", "SSE /runs/stream end")
    assert all(failures[door] > 0 for door in doors), failures
    assert outcome.result["conversations"]["completed"] == 0
    assert all(words in outcome.errors() for words in said), outcome.errors()


class Unfinished(BaseHTTPRequestHandler):
    """Every stream has its first event, and then no other; statuses and framing are right."""

    protocol_version = "HTTP/1.1"
    keys: Counter[str | None]

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.keys[self.headers["x-api-key"]] += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        frame = b"event: metadata\r\ndata: {}\r\n\r\n"
        self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(frame), frame))

    def log_message(self, *_: object) -> None:
        pass


def test_a_stream_without_end_fails_and_the_key_is_sent(tmp_path):
    Unfinished.keys = Counter()
    with ThreadingHTTPServer(("127.0.0.1", 0), Unfinished) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            outcome = load(url, tmp_path, LOAD_SECONDS="2", HEADRACE_API_KEY="key-of-the-test")
        finally:
            server.shutdown()
    assert outcome.code == 1
    assert outcome.entries("failures")["SSE /chat/stream first event"] == 0
    assert "the stream stopped after 'metadata', without end" in outcome.errors()
    assert outcome.result["server"] == {"silent": "its figures cannot be had: /health answered 404"}
    assert set(Unfinished.keys) == {"key-of-the-test"}
