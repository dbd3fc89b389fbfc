"""Rows 10, 11 and 15: places that one caller could take from all others."""

import asyncio
import json
from collections import Counter
from uuid import uuid4

from tests.attack.attacker import Attacker

_CHANGES = 40
_SUPERSTEPS = 1000


async def supersteps(attacker: Attacker) -> None:
    """Changes of the state that hold a connection for long."""
    step = {"updates": [{"values": {"log": ["x"]}, "as_node": "node"}]}
    body = json.dumps(
        {
            "metadata": {"graph_id": "echo"},
            "supersteps": [step] * attacker.count(_SUPERSTEPS, 20),
        }
    ).encode()
    while not attacker.over:
        calls = [lambda: attacker.ask("POST", "/threads", body)] * attacker.count(_CHANGES, 4)
        await attacker.together(calls, parallel=_CHANGES)


async def one_key(attacker: Attacker) -> None:
    """Waits for one run, of which many come when it is over: values, or that they are gone."""
    answers: Counter[str] = Counter()

    async def one(key: str) -> None:
        body = {"assistant_id": "echo", "input": {"said": "once"}}
        headers = {"Idempotency-Key": key}
        answer = await attacker.ask(
            "POST", "/runs/wait", body, allowed={200, 409, 429, 503}, headers=headers
        )
        if answer is None:
            return
        answers[f"{answer.status_code}"] += 1
        told = "once!" in answer.text or "RunForgotten" in answer.text
        attacker.tally.judge(
            told or answer.status_code != 200, f"a false success: {answer.text[:100]}"
        )

    while not attacker.over:
        key = uuid4().hex
        await attacker.together([lambda key=key: one(key)] * attacker.count(600, 50), parallel=600)
    attacker.tally.notes.append(f"answers by status: {dict(answers)}")


_ENDLESS = 400
_THREAD_STREAMS = 1000
_QUEUED = 10_001
_BATCH = 100


async def occupy(attacker: Attacker) -> None:
    """All places of both processes, by one key."""
    runs = [("sleeper", 3600.0)] * 200 + [("deaf", 60.0)] * 120 + [("blocked", 60.0)] * 80
    ids: list[tuple[str, str]] = []

    async def start(assistant: str, seconds: float) -> None:
        thread = await attacker.thread()
        path = f"/threads/{thread}/runs"
        body = {"assistant_id": assistant, "input": {"seconds": seconds}}
        answer = await attacker.ask("POST", path, body, allowed={200, 429, 503})
        if answer is not None and answer.status_code == 200:
            ids.append((thread, answer.json()["run_id"]))

    chosen = runs[:: max(1, round(1 / attacker.scale))]
    await attacker.together(
        ((lambda one=one: start(*one)) for one in chosen[:_ENDLESS]), parallel=16
    )
    async with asyncio.TaskGroup() as group:
        held = [
            group.create_task(attacker.hold("GET", f"/threads/{ids[n % len(ids)][0]}/stream"))
            for n in range(attacker.count(_THREAD_STREAMS) if ids else 0)
        ]
        await _queue(attacker)
        # Those that hear nothing are cancelled: their places are theirs all the same.
        await attacker.together(
            (
                (
                    lambda one=one: attacker.ask(
                        "POST", f"/threads/{one[0]}/runs/{one[1]}/cancel?wait=0"
                    )
                )
                for one in ids[len(ids) // 2 :]
            ),
            parallel=8,
        )
        await asyncio.sleep(attacker.left)
        for one in held:
            one.cancel()


async def _queue(attacker: Attacker) -> None:
    """More runs than one caller may queue: at last they are refused."""
    queued = attacker.count(_QUEUED, _BATCH)
    batch = [{"assistant_id": "sleeper", "input": {"seconds": 3600}}] * _BATCH
    body = json.dumps(batch).encode()
    refused = False
    for _ in range(queued // _BATCH + 6):
        answer = await attacker.ask("POST", "/runs/batch", body, allowed={200, 422, 429, 503})
        refused |= answer is not None and answer.status_code == 429
        if attacker.over:
            break
    waiting = attacker.sql("SELECT count(*) FROM runs WHERE status = 'pending'")[0][0]
    attacker.tally.notes.append(f"{waiting} runs wait; refused at last: {refused}")
    attacker.tally.judge(waiting <= _QUEUED + _BATCH, f"{waiting} runs of one caller are queued")
