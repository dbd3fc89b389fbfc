"""A server whose processes are killed at random while runs write into the ledger."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import psycopg

from tests.ledger.books import Line, Run, checkpoints_of, read_ledger
from tests.support.live import LiveServer, live_server

GRAPH = Path(__file__).parent / "graph" / "langgraph.json"
DURABILITIES = ("sync", "async", "exit")

_SETTINGS = {
    # A run that meets one kill after another is no run that takes processes with it.
    "HEADRACE_WORKER__MAX_FAILURES": "10000",
    "HEADRACE_WORKER__APART_SECONDS": "0.5",
    "HEADRACE_WORKER__APART_PATIENCE_SECONDS": "0.5",
    "HEADRACE_OBSERVABILITY__LOG_LEVEL": "warning",
}
_SETTLE_SECONDS = 120.0


@dataclass(frozen=True)
class Plan:
    """``kills`` processes are killed, about every ``every_seconds``, while ``runs`` run at once."""

    kills: int
    seed: int
    every_seconds: float = 2.0
    runs: int = 9
    steps: int = 12
    step_seconds: float = 0.15


@dataclass
class Outcome:
    plan: Plan
    runs: list[Run] = field(default_factory=list)
    ledger: list[Line] = field(default_factory=list)
    kills: int = 0
    seconds: float = 0.0


async def killed_runs(plan: Plan, folder: Path, database_url: str) -> Outcome:
    """The whole of it: the server, the runs and the kills; then what is left."""
    ledger = folder / "ledger"
    outcome = Outcome(plan)
    began = time.monotonic()
    environment: dict[str, Any] = {**_SETTINGS, "LEDGER": str(ledger)}
    with live_server(folder, database_url, config=GRAPH, **environment) as server:
        ends = asyncio.Event()
        async with _client(server) as client, asyncio.TaskGroup() as group:
            kinds = cycle(DURABILITIES)
            for _ in range(plan.runs):
                group.create_task(_runs(client, next(kinds), plan, outcome, ends))
            await _kill(server, plan, outcome)
            ends.set()
    with psycopg.connect(database_url, autocommit=True) as database:
        for run in outcome.runs:
            run.checkpoints = checkpoints_of(database, run.thread_id)
    outcome.ledger = read_ledger(ledger)
    outcome.seconds = time.monotonic() - began
    return outcome


@asynccontextmanager
async def _client(server: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=server.url, timeout=10, limits=limits) as client:
        yield client


async def _runs(
    client: httpx.AsyncClient, durability: str, plan: Plan, outcome: Outcome, ends: asyncio.Event
) -> None:
    """One run after another, each on a thread of its own, until the kills have ended."""
    body = {
        "assistant_id": "ledger",
        "input": {"steps": plan.steps, "seconds": plan.step_seconds},
        "durability": durability,
    }
    while not ends.is_set():
        thread_id = (await _asked(client, "POST", "/threads", {}))["thread_id"]
        path = f"/threads/{thread_id}/runs"
        run_id = (await _asked(client, "POST", path, body))["run_id"]
        run = Run(run_id, durability, plan.steps, thread_id)
        outcome.runs.append(run)
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_SECONDS + plan.kills * plan.every_seconds):
                while run.status in ("", "pending", "running"):
                    await asyncio.sleep(0.25)
                    run.status = (await _asked(client, "GET", f"{path}/{run_id}"))["status"]
        state = await _asked(client, "GET", f"/threads/{thread_id}/state")
        run.left, run.right = (state["values"].get(node, []) for node in ("left", "right"))


async def _asked(
    client: httpx.AsyncClient, method: str, path: str, body: object = None
) -> dict[str, Any]:
    """The answer, from whichever process lives. A key makes a repeated POST one request."""
    headers = {"Idempotency-Key": os.urandom(16).hex()} if method == "POST" else {}
    while True:
        with suppress(httpx.TransportError):
            answer = await client.request(method, path, json=body, headers=headers)
            if answer.status_code < 500:
                found: dict[str, Any] = answer.raise_for_status().json()
                return found
        await asyncio.sleep(0.1)


async def _kill(server: LiveServer, plan: Plan, outcome: Outcome) -> None:
    dice = random.Random(plan.seed)
    while outcome.kills < plan.kills:
        await asyncio.sleep(plan.every_seconds * dice.uniform(0.3, 1.7))
        serving = await asyncio.to_thread(server.serving)
        # One lives on: it, or a process that has just started, takes up what the other had.
        if len(serving) > 1:
            with suppress(ProcessLookupError):
                os.kill(dice.choice(serving), signal.SIGKILL)
                outcome.kills += 1
