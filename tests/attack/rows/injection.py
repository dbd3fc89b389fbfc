"""Rows 18 and 19: texts that should become statements, filters, or events."""

import asyncio
import json
import random
import re
import time
from functools import partial
from typing import Any

from tests.attack.attacker import Attacker
from tests.support.injection import calls, is_filter

_PARALLEL = 8
_QUICK_SECONDS = 8.0
_MARK = "mark-of-a-row-that-no-attack-may-find"
_TABLES = ("threads", "runs", "assistants", "store", "checkpoints")
#: A short form asks so many of all calls.
_MOST = 40_000


async def search(attacker: Attacker) -> None:
    """Each text in each field of each search."""
    thread = await attacker.thread(metadata={"mark": _MARK})
    await attacker.run("echo", thread, input={"said": "a"}, metadata={"mark": _MARK})
    assistant = await attacker.http.post(
        "/assistants", json={"graph_id": "echo", "metadata": {"mark": _MARK}}
    )
    ids = {"thread_id": thread, "assistant_id": assistant.json()["assistant_id"]}
    item = {"namespace": ["marked"], "key": "a", "value": {"mark": _MARK}}
    (await attacker.http.put("/store/items", json=item)).raise_for_status()
    described = (await attacker.http.get("/openapi.json")).json()
    before = [attacker.sql(f"SELECT to_regclass('{name}') IS NOT NULL") for name in _TABLES]
    asked = list(calls(described, ids))
    random.shuffle(asked)
    asked = asked[: attacker.count(_MOST)]
    attacker.tally.notes.append(f"{len(asked)} calls")

    async def one(method: str, path: str, body: Any) -> None:
        began = time.monotonic()
        # A search that is right in its form looks for the attack's text, and finds nothing.
        allowed = {200, 204, *range(300, 500), 501, 503}
        answer = await attacker.ask(
            method, path, body, allowed=allowed, what=f"{method} {path.partition('?')[0]}"
        )
        took = time.monotonic() - began
        attacker.tally.judge(took < _QUICK_SECONDS, f"{path} took {took:.0f} s")
        if answer is not None and answer.status_code == 200 and is_filter(body):
            attacker.tally.judge(_MARK not in answer.text, f"{path} {body} found another row")

    # What waits for something is asked by other rows.
    lasting = re.compile(r"/(stream|join|wait|cancel)|/chat|/events")
    await attacker.together(
        (partial(one, *call) for call in asked if not lasting.search(call[1])), parallel=_PARALLEL
    )
    after = [attacker.sql(f"SELECT to_regclass('{name}') IS NOT NULL") for name in _TABLES]
    attacker.tally.judge(before == after, "a table is gone")
    left = attacker.sql("SELECT count(*) FROM threads WHERE thread_id = %s", thread)
    attacker.tally.judge(left == [(1,)], "a row is gone")


#: What ends a line for some client, and what would follow.
ENDS = ("\r\n", "\n", "\r", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1e", "\r\n\r\n", "\n\n")
FORGED = "forged-e5"


def forgeries() -> list[str]:
    """Texts that would be events if they reached a stream as they are."""
    tails = (
        f"event: {FORGED}",
        f"id: {FORGED}",
        f"data: {FORGED}",
        f"retry: {FORGED}",
        f"event: end{{}}data: {FORGED}",
        f": {FORGED}",
    )
    return [f"x{end}{tail.replace('{}', end)}{end}" for end in ENDS for tail in tails]


def forged_lines(stream: bytes) -> list[bytes]:
    """The lines of a stream that begin with what somebody has sent; by all ends of lines."""
    text = stream.decode("utf-8", "replace")
    return [line.encode() for line in text.splitlines() if re.match(rf"\w*: ?{FORGED}", line)]


async def break_lines(attacker: Attacker) -> None:
    """Ends of lines in everything that a stream may repeat."""
    forms = forgeries()
    chosen = forms[: attacker.count(len(forms), 8)]

    async def one(text: str) -> None:
        bodies: list[dict[str, Any]] = [
            {"assistant_id": "echo", "input": {"said": text}},
            {"assistant_id": "echo", "input": {"said": "a"}, "metadata": {text: text}},
            {"assistant_id": "fails", "input": {"secret": text}},
            {"assistant_id": "chat", "input": {"messages": [{"role": "user", "content": text}]}},
            {"assistant_id": "echo", "input": {}, "command": {"goto": text}},
            {"assistant_id": "echo", "input": {"said": "a"}, "config": {"tags": [text[:100]]}},
        ]
        for body in bodies:
            modes = ["values", "updates", "debug", "messages", "tasks", "checkpoints", "events"]
            answer = await attacker.ask(
                "POST", "/runs/stream", {**body, "stream_mode": modes}, what="/runs/stream"
            )
            if answer is None:
                continue
            told = forged_headers(answer.headers)
            # A refusal is one JSON text, which nobody reads line by line.
            if answer.headers["content-type"].startswith("text/event-stream"):
                told += forged_lines(answer.content)
            attacker.tally.judge(not told, f"{json.dumps(body)} became {told[:1]}")
        for name in ("Last-Event-ID", "X-Request-Id", "Idempotency-Key"):
            sent = text.encode("latin-1", "replace").replace(b"\r", b"\x0b").replace(b"\n", b"\x0b")
            answer = await attacker.ask("GET", "/threads/x/stream", headers={name: sent}, what=name)
            if answer is not None:
                told = forged_headers(answer.headers)
                attacker.tally.judge(not told, f"{name} became {told[:1]}")

    async def all_of(texts: list[str]) -> None:
        for text in texts:
            await one(text)

    await asyncio.gather(*(all_of(chosen[number::4]) for number in range(4)))


def forged_headers(headers: Any) -> list[bytes]:
    return [str(pair).encode() for pair in headers.items() if FORGED in str(pair)]
