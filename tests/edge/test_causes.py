"""The cause of each refusal: its code in the answer, in the access line and in the metrics."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI, HTTPException
from starlette.requests import Request

from headrace.auth.api_keys import ApiKeys
from headrace.auth.handler_errors import RefusedByHandler
from headrace.auth.identity import Identity
from headrace.edge.access_log import AccessLog
from headrace.edge.body_memory import BodyMemory
from headrace.edge.gates import RequestGates, lasting, lists
from headrace.edge.middleware import Middleware
from headrace.edge.routing import new_router
from headrace.edge.state import State
from headrace.edge.web_pages import Origins, WebPages
from headrace.observability.metrics import Metrics
from headrace.server.error_handlers import add_error_handlers
from headrace.settings import Settings
from tests.docs.test_errors import request_errors
from tests.support.apps import GRAPHS, app_client, settings_for, write_manifest
from tests.support.exposition import Exposition
from tests.support.measured import board_with

KEY = "a-key-of-the-causes-1"
LARGE = 100 * 1024


@dataclass
class Edge:
    """The edge around endpoints that fail, and what it tells."""

    client: httpx.AsyncClient
    metrics: Metrics
    lines: list[Any]
    gates: RequestGates
    bodies: BodyMemory
    middleware: Middleware

    def causes(self) -> set[tuple[str, str]]:
        found = Exposition(self.metrics.render().decode())
        return {
            (labels["status"], labels["code"])
            for name, labels, _ in found.samples
            if name == "headrace_http_requests_total"
        }


router = new_router(tag="threads")
KINDS = {kind.code: kind for kind in request_errors()}


@router.get("/raise/{code}")
async def raise_one(code: str) -> None:
    """Fail in the way that the caller asks for."""
    if code == "bug":
        raise ZeroDivisionError
    if code == "teapot":
        raise HTTPException(418, f"a sentence about {id(code)}")
    if KINDS[code] is RefusedByHandler:
        raise RefusedByHandler(402, "no", {})
    raise KINDS[code]


@router.get("/listed")
@lists
async def listed() -> list[int]:
    """List nothing."""
    return []


@router.get("/lasting")
@lasting
async def last() -> None:
    """Last for no time."""


@router.post("/body")
async def body(number: dict[str, int]) -> dict[str, int]:
    """Send the body back."""
    return number


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    settings = Settings.model_validate(
        {
            "server": {"max_body_bytes": LARGE},
            "database": {"part_wait_seconds": 0.05, "away_timeout_seconds": 0},
        }
    )
    metrics = Metrics(board_with())
    gates = RequestGates(settings, count=metrics.http.count_gate_refusal)
    bodies = BodyMemory(
        total_bytes=LARGE,
        wait_seconds=0.05,
        share=1.0,
        count_refused=metrics.http.count_refused_body,
    )
    app = FastAPI()
    app.include_router(router)
    add_error_handlers(app)

    @app.get("/plain")
    async def fail(request: Request) -> None:
        raise ZeroDivisionError

    @app.get("/number")
    async def number(number: int) -> int:
        return number

    state = State(
        settings,
        metrics,
        gates,
        bodies,
        Identity(ApiKeys([KEY])),
        WebPages(Origins(), guarded=False, hosts=None),
        AccessLog(metrics.http),
    )
    wrapped = Middleware(app, plain_inside=True)

    async def served(scope: Any, receive: Any, send: Any) -> None:
        await wrapped({**scope, "state": {"headrace": state}}, receive, send)

    transport = httpx.ASGITransport(served, raise_app_exceptions=False)
    with structlog.testing.capture_logs() as lines:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://server", headers={"x-api-key": KEY}
        ) as client:
            yield Edge(client, metrics, lines, gates, bodies, wrapped)


def answered(lines: list[Any]) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == "request_answered"]


async def check(edge: Edge, answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    line = answered(edge.lines)[-1]
    assert (line["status"], line["code"]) == (status, code)
    assert (str(status), code) in edge.causes()


@pytest.mark.parametrize("code", sorted(KINDS))
async def test_every_refusal_tells_its_code(edge: Edge, code: str) -> None:
    # Others of its statuses have the general code of the status.
    status = 402 if code == "refused_by_handler" else KINDS[code].status
    await check(edge, await edge.client.get(f"/raise/{code}"), status, code)


async def test_errors_outside_of_refusals_have_codes_too(edge: Edge) -> None:
    client = edge.client
    await check(edge, await client.get("/raise/bug"), 500, "internal_error")
    await check(edge, await client.get("/plain"), 500, "internal_error")
    await check(edge, await client.get("/number?number=x"), 422, "invalid_request")
    await check(edge, await client.get("/nowhere"), 404, "not_found")
    await check(edge, await client.put("/raise/bug"), 405, "method_not_allowed")
    await check(edge, await client.get("/raise/teapot"), 418, "bad_request")
    await check(edge, await client.get("/ui/agent"), 501, "not_implemented")
    await check(edge, await client.get("/mcp"), 404, "door_closed")


async def test_what_is_wrong_with_a_body_has_codes(edge: Edge) -> None:
    client = edge.client
    await check(edge, await client.post("/body", content="{"), 422, "malformed_json")
    await check(edge, await client.post("/body", json={"a": "b"}), 422, "invalid_request")
    await check(
        edge, await client.post("/body", content=b" " * 2 * LARGE), 413, "payload_too_large"
    )
    bare = await client.post("/body", json={}, headers={"x-api-key": "of nobody"})
    await check(edge, bare, 401, "unauthenticated")


async def test_what_found_no_place_has_codes(edge: Edge) -> None:
    client = edge.client
    async with AsyncExitStack() as held:
        for _ in range(edge.gates._gates["lists"].places.total):
            await held.enter_async_context(edge.gates.of_pool("lists", ""))
        await check(edge, await client.get("/listed"), 503, "pool_share_full")
    assert (await client.get("/listed")).status_code == 200
    edge.gates.answers.total = 0
    await check(edge, await client.get("/lasting"), 503, "too_many_answers")
    other, large = edge.bodies.body("another"), {"a" * (LARGE * 4 // 5): 1}
    async with other.coming():
        await other.grow(LARGE)
        await check(edge, await client.post("/body", json=large), 503, "bodies_full")
        other.release()
    assert (await client.post("/body", json=large)).status_code == 200


async def test_a_public_request_that_gets_no_turn_has_a_code(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge.middleware._public, "_timeout_seconds", 0.05)
    for _ in range(4):
        await edge.middleware._public.take("")
    await check(edge, await edge.client.get("/ok"), 503, "too_many_public_requests")


async def test_guards_of_an_app_of_the_user_tell_codes(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    http = {
        "app": f"{GRAPHS / 'webapp.py'}:app",
        "enable_custom_route_auth": True,
        "mount_prefix": "/agents",
    }
    settings = settings_for(
        database_url,
        write_manifest(tmp_path, http=http),
        api_keys=KEY,
        edge={"metrics": "on"},
        metrics={"cache_seconds": 0},
    )
    async with app_client(settings) as client:
        assert (await client.get("/agents/hello")).status_code == 401
        assert (await client.get("/threads")).status_code == 404
        assert (await client.get("/agents/teapot", headers={"x-api-key": KEY})).status_code == 418
        found = Exposition((await client.get("/metrics")).text)
    series = [
        (labels["status"], labels["code"])
        for name, labels, _ in found.samples
        if name == "headrace_http_requests_total"
    ]
    assert series == [("401", "unauthenticated"), ("404", "not_found"), ("418", "")]


async def test_a_plain_answer_has_no_code(edge: Edge) -> None:
    assert (await edge.client.post("/body", json={"a": 1})).status_code == 200
    assert "code" not in answered(edge.lines)[-1]
    assert edge.causes() == {("200", "")}
