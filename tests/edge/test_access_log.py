"""The access log: what a line tells, which lines are left out, and how cuts are told."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from headrace.edge.access_log import AccessLog
from headrace.edge.exchange import exchange_of
from headrace.edge.middleware import Middleware
from headrace.edge.request_traces import trace_of
from headrace.edge.state import State
from headrace.edge.streaming import StreamResponse
from headrace.events.reader import Ending, FollowingStopped
from headrace.observability.metrics import Metrics
from tests.support.exposition import Exposition
from tests.support.measured import board_with
from tests.support.waiting import eventually

THREAD = "01a20f90-ead2-7dda-8dd9-155da35890a5"
RUN = "01a20f90-ead2-7dda-8dd9-155da35890a6"


class Told:
    """Requests to an app behind the middleware, and what becomes known of them."""

    def __init__(self, lines: list[Any], *, lines_per_second: float = 0) -> None:
        self._lines = lines
        self.metrics = Metrics(board_with())
        self._access = AccessLog(self.metrics.http, lines_per_second=lines_per_second)
        self._leaves = asyncio.Event()
        self.sent: list[Message] = []

    async def ask(self, app: Any, path: str = "/", **more: Any) -> None:
        scope: Scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "headers": [],
            "client": ("10.1.2.3", 4),
            "state": {"headrace": State(self.metrics, self._access)},
            **more,
        }
        await Middleware(app, plain_inside=True)(scope, self._receive, self._send)

    def leave(self) -> None:
        """The client hangs up."""
        self._leaves.set()

    async def _receive(self) -> Message:
        await self._leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [line for line in self._lines if line["event"] == "request_answered"]

    @property
    def exposed(self) -> Exposition:
        return Exposition(self.metrics.render().decode())


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


def plain(status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(b"12345", status_code=status, headers=headers)


def stream(chunks: AsyncGenerator[bytes, None], **more: Any) -> StreamResponse:
    return StreamResponse(
        chunks, media_type="text/plain", headers={}, on_disconnect=lambda: None, **more
    )


async def test_a_line_tells_who_asked_what_and_what_was_sent(lines: list[Any]) -> None:
    told = Told(lines)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        assert exchange is not None
        exchange.caller = "0123456789abcdef"
        answer = plain(headers={"content-location": f"/x/threads/{THREAD}/runs/{RUN}"})
        await answer(scope, receive, send)

    await told.ask(app, "/runs/wait")
    (line,) = told.lines
    assert 0 <= line.pop("first_byte_seconds") <= line.pop("seconds") < 1
    assert line == {
        "event": "request_answered",
        "log_level": "info",
        "method": "GET",
        "path": "/runs/wait",
        "route": "__unmatched__",
        "status": 200,
        "bytes": 5,
        "thread_id": THREAD,
        "run_id": RUN,
        "client": "10.1.2.3",
        "caller": "0123456789abcdef",
    }
    found = told.exposed
    assert found.value("headrace_http_response_bytes_total") == 5
    assert found.value("headrace_http_first_byte_seconds_count") == 1


async def test_ids_come_from_the_path_where_the_answer_names_none(lines: list[Any]) -> None:
    told = Told(lines)
    await told.ask(plain(), f"/threads/{THREAD}/state")
    await told.ask(plain(), f"/threads/{THREAD}/runs/{RUN}/join")
    await told.ask(plain(), "/threads/of-nobody")
    await told.ask(plain(), f"/threads/{'-' * 36}")
    await told.ask(plain(headers={"content-location": f"/x/runs/{RUN}"}), "/runs")
    await told.ask(plain(), "/", method="HEAD", client=None)
    found = [(line.get("thread_id"), line.get("run_id")) for line in told.lines]
    assert found == [(THREAD, None), (THREAD, RUN), *[(None, None)] * 2, (None, RUN), (None, None)]
    assert told.lines[-1]["bytes"] == 0
    assert "client" not in told.lines[-1]


async def ended_by(reason: str, ending: Ending) -> AsyncGenerator[bytes, None]:
    yield b"1"
    match reason:
        case "broken":
            raise FollowingStopped("slow_client")
        case "released":
            raise FollowingStopped
        case "fault":
            raise ZeroDivisionError
        case "noted":
            ending.note("drain")
        case "left":
            await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("broken", "slow_client"),
        ("released", "drain"),
        ("fault", "fault"),
        ("noted", "drain"),
        ("left", "client_left"),
        ("whole", ""),
    ],
)
async def test_a_cut_stream_is_told_with_its_reason(
    lines: list[Any], way: str, reason: str
) -> None:
    told, ending = Told(lines), Ending()
    asked = asyncio.ensure_future(told.ask(stream(ended_by(way, ending), ending=ending)))
    if way == "left":
        await eventually(lambda: told.metrics.http.streams_open == 1)
        assert told.metrics.http.requests_in_flight == 1
        told.leave()
    await asyncio.wait([asked])
    assert (asked.exception() is not None) is (way == "fault")
    (line,) = told.lines
    assert (line["status"], line.get("cut", "")) == (200, reason)
    assert told.exposed.count("headrace_streams_cut_total", reason=reason) == bool(reason)
    assert told.exposed.count("headrace_streams_cut_total") == bool(reason)
    assert (told.metrics.http.streams_open, told.metrics.http.requests_in_flight) == (0, 0)


async def test_one_that_leaves_an_endless_stream_cuts_nothing(lines: list[Any]) -> None:
    told = Told(lines)
    response = stream(ended_by("left", Ending()), endless=True)
    asked = asyncio.ensure_future(told.ask(response))
    await eventually(lambda: told.metrics.http.streams_open)
    told.leave()
    await asked
    assert "cut" not in told.lines[0]
    assert told.exposed.count("headrace_streams_cut_total") == 0


async def test_a_request_that_the_server_cancels_gets_503_and_is_told(lines: list[Any]) -> None:
    told = Told(lines)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    asked = asyncio.ensure_future(told.ask(app))
    await eventually(lambda: told.metrics.http.requests_in_flight)
    asked.cancel()
    await asyncio.wait([asked])
    assert asked.cancelled()
    assert (told.lines[0]["status"], told.lines[0]["code"]) == (503, "draining")
    head, body = told.sent
    assert head["status"] == 503
    assert b"retry-after" in dict(head["headers"])
    assert b"draining" in body["body"]


async def test_a_stream_of_an_app_that_stops_without_an_end_has_lost_its_client(
    lines: list[Any],
) -> None:
    told = Told(lines)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})

    await told.ask(app)
    assert told.lines[0]["cut"] == "client_left"


async def test_lines_above_the_rate_are_left_out_and_told(lines: list[Any]) -> None:
    told = Told(lines, lines_per_second=5)
    for _ in range(100):
        await told.ask(plain())
    assert 5 <= len(told.lines) < 20
    left_out = 100 - len(told.lines)
    assert told.exposed.value("headrace_access_lines_dropped_total") == left_out
    for _ in range(50):
        await told.ask(plain(404))
    refused = [line for line in told.lines if line["status"] == 404]
    assert len(refused) == 50
    assert sum(line.get("left_out", 0) for line in told.lines) == left_out
    assert told.exposed.value("headrace_http_requests_total") == 150


async def test_refusals_take_no_lines_from_plain_successes(lines: list[Any]) -> None:
    told = Told(lines, lines_per_second=5)
    for _ in range(100):
        await told.ask(plain(404))
    before = len(told.lines)
    for _ in range(5):
        await told.ask(plain())
    assert len(told.lines) == before + 5 == 105
    assert told.exposed.value("headrace_access_lines_dropped_total") == 0


async def test_the_user_s_app_may_keep_values_of_any_name_in_the_state(lines: list[Any]) -> None:
    told = Told(lines)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["trace_id"] = scope["state"]["trace"] = "mine"
        assert not isinstance(trace_of(Request(scope)), str)
        await plain()(scope, receive, send)

    await told.ask(app)
    assert "trace_id" not in told.lines[0]


async def test_the_number_of_lines_left_out_is_not_told_in_a_line_of_a_probe(
    lines: list[Any],
) -> None:
    told = Told(lines, lines_per_second=1)
    for _ in range(20):
        await told.ask(plain())
    left_out = 20 - len(told.lines)
    await told.ask(plain(), "/livez")
    await told.ask(plain(404))
    # At the level info, the line of the probe is not written.
    written = [line for line in told.lines if line["log_level"] != "debug"]
    assert sum(line.get("left_out", 0) for line in written) == left_out


async def test_cut_and_slow_answers_always_have_their_line(
    lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(lines, lines_per_second=1)
    for _ in range(20):
        await told.ask(plain())
    before = len(told.lines)
    for _ in range(10):
        await told.ask(stream(ended_by("released", Ending())))
    assert len(told.lines) == before + 10
    monkeypatch.setattr("headrace.edge.access_log._SLOW_SECONDS", 0.0)
    for _ in range(10):
        await told.ask(plain())
    assert len(told.lines) == before + 20


async def test_without_a_rate_and_without_a_lifespan_every_answer_has_its_line(
    lines: list[Any],
) -> None:
    told = Told(lines)
    for _ in range(300):
        await told.ask(plain(), state={})
    assert len(told.lines) == 300
