"""Requests that need no key: a flood of them is worked on few at a time."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from headrace.edge.middleware import Middleware
from tests.support.waiting import eventually

AT_ONCE = 4


class App:
    """Counts who is inside, and answers when it is told to."""

    def __init__(self) -> None:
        self.inside = self.most = self.answered = 0
        self.go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.go.wait()
        self.inside -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})
        self.answered += 1


def scope(path: str) -> Scope:
    return {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}


async def nothing() -> Message:
    raise AssertionError("nobody reads here")


@pytest.mark.parametrize("path", ["/health", "/ok", "/livez", "/readyz", "/info"])
@pytest.mark.parametrize("plain_inside", [True, False])
async def test_few_are_worked_on_at_once_and_all_are_answered(path, plain_inside):
    app = App()
    outer, sent = Middleware(app, plain_inside=plain_inside), []

    async def send(message: Any) -> None:
        sent.append(message)

    asked = [asyncio.ensure_future(outer(scope(path), nothing, send)) for _ in range(100)]
    await eventually(lambda: outer._public.waiting == 100 - AT_ONCE)
    assert app.inside == AT_ONCE
    # One with a key does not stand behind them.
    other = asyncio.ensure_future(outer(scope("/threads/1"), nothing, send))
    await eventually(lambda: app.inside == AT_ONCE + 1)
    asked[0].cancel()
    asked[50].cancel()
    app.go.set()
    await asyncio.wait([*asked, other])
    assert app.answered == 99
    assert app.most == AT_ONCE + 1


async def test_a_turn_that_does_not_come_is_refused(monkeypatch):
    monkeypatch.setattr("headrace.edge.middleware._PUBLIC_SECONDS", 0.05)
    outer, sent = Middleware(App()), []

    async def send(message: Any) -> None:
        sent.append(message)

    asked = [asyncio.ensure_future(outer(scope("/ok"), nothing, send)) for _ in range(AT_ONCE + 1)]
    await asked[-1]
    assert sent[0]["status"] == 503
    assert json.loads(sent[1]["body"])["code"] == "too_many_public_requests"
    for one in asked:
        one.cancel()
    await asyncio.wait(asked)


async def test_who_does_not_read_keeps_no_turn():
    app = App()
    app.go.set()
    outer = Middleware(app, plain_inside=True)
    reads, unread = asyncio.Event(), []

    async def never_read(message: Any) -> None:
        unread.append(message)
        await reads.wait()

    stuck = [asyncio.ensure_future(outer(scope("/health"), nothing, never_read)) for _ in range(9)]
    await eventually(lambda: len(unread) == len(stuck))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(1):
        await outer(scope("/livez"), nothing, send)
    assert sent[0]["status"] == 200
    reads.set()
    await asyncio.wait(stuck)
