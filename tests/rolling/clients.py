"""Clients that make turns through the proxy, and what each of them got.

Plain clients repeat nothing. The SDK does what it does by itself.
"""

import asyncio
import json
import random
import time
import uuid
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import requests
from langgraph_sdk import get_client

_TIMEOUT_SECONDS = 180.0


@dataclass
class TurnMade:
    """One turn: what was asked, and what the client got.

    :ivar told: the numbers of steps that the stream told, in order; None for a client that waits.
    :ivar done: the steps in the final values; None if the client has not got them.
    :ivar failure: why the request failed, in the eyes of the client.
    """

    kind: str
    steps: list[float]
    turn: str = field(default_factory=lambda: str(uuid.uuid4()))
    told: list[int] | None = None
    done: list[int] | None = None
    failure: str = ""
    began_at: float = field(default_factory=time.time)

    @property
    def numbers(self) -> list[int]:
        return list(range(len(self.steps)))

    @property
    def body(self) -> dict[str, Any]:
        given = {"turn": self.turn, "steps": self.steps, "done": []}
        return {"assistant_id": "ledger", "input": given, "if_not_exists": "create"}


async def wait_plainly(url: str, made: TurnMade, client: httpx.AsyncClient) -> None:
    answer = await client.post(f"/threads/{made.turn}/runs/wait", json=made.body)
    answer.raise_for_status()
    made.done = answer.json()["done"]


async def wait_with_requests(url: str, made: TurnMade, client: httpx.AsyncClient) -> None:
    def post() -> Any:
        answer = _SESSION.post(
            f"{url}/threads/{made.turn}/runs/wait", json=made.body, timeout=_TIMEOUT_SECONDS
        )
        answer.raise_for_status()
        return answer.json()

    made.done = (await asyncio.to_thread(post))["done"]


async def stream_plainly(url: str, made: TurnMade, client: httpx.AsyncClient) -> None:
    made.told, name = [], ""
    body = {**made.body, "stream_mode": ["custom", "values"]}
    async with client.stream("POST", f"/threads/{made.turn}/runs/stream", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                note_event(made, name, json.loads(line.removeprefix("data: ")))
    if name != "end":
        raise RuntimeError(f"the stream closed after an event {name!r}")


async def join_plainly(url: str, made: TurnMade, client: httpx.AsyncClient) -> None:
    created = await client.post(f"/threads/{made.turn}/runs", json=made.body)
    created.raise_for_status()
    answer = await client.get(f"/threads/{made.turn}/runs/{created.json()['run_id']}/join")
    answer.raise_for_status()
    made.done = answer.json()["done"]


async def wait_with_the_sdk(url: str, made: TurnMade, client: httpx.AsyncClient) -> None:
    sdk = get_client(url=url)
    try:
        values = await sdk.runs.wait(
            made.turn, "ledger", input=made.body["input"], if_not_exists="create"
        )
        made.done = values["done"]  # type: ignore[call-overload]
    finally:
        await sdk.aclose()


async def stream_with_the_sdk(url: str, made: TurnMade, client: httpx.AsyncClient) -> None:
    made.told = []
    sdk = get_client(url=url)
    try:
        async for part in sdk.runs.stream(
            made.turn,
            "ledger",
            input=made.body["input"],
            if_not_exists="create",
            stream_mode=["custom", "values"],
            stream_resumable=True,
        ):
            note_event(made, part.event, part.data)
    finally:
        await sdk.aclose()


def note_event(made: TurnMade, name: str, data: Any) -> None:
    if name == "custom" and made.told is not None:
        made.told.append(data["step"])
    elif name == "values":
        made.done = data["done"]
    elif name == "error":
        raise RuntimeError(str(data))


_SESSION = requests.Session()

#: By name: makes one turn.
KINDS: dict[str, Callable[[str, TurnMade, httpx.AsyncClient], Awaitable[None]]] = {
    "httpx wait": wait_plainly,
    "httpx stream": stream_plainly,
    "httpx join": join_plainly,
    "requests wait": wait_with_requests,
    "SDK wait": wait_with_the_sdk,
    "SDK stream": stream_with_the_sdk,
}


class Load:
    """Turns of all kinds, until stopped."""

    def __init__(self, url: str, *, clients: int, longest: float, seed: int) -> None:
        self._url = url
        self._clients = clients
        self._longest = longest
        self._random = random.Random(seed)
        self._stopping = False
        self.made: list[TurnMade] = []

    def stop(self) -> None:
        """Make no more turns; those under way end."""
        self._stopping = True

    async def make(self) -> None:
        """Make turns until stopped, and return when all have ended."""
        kinds = list(KINDS)
        async with asyncio.TaskGroup() as group:
            for number in range(self._clients):
                group.create_task(self._make_turns(kinds[number % len(kinds)]))

    async def _make_turns(self, kind: str) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=_TIMEOUT_SECONDS) as client:
            while not self._stopping:
                count = self._random.randint(1, 4)
                steps = [round(self._random.uniform(0.2, self._longest), 2) for _ in range(count)]
                made = TurnMade(kind, steps)
                self.made.append(made)
                try:
                    with warnings.catch_warnings():
                        # The SDK warns when it connects again.
                        warnings.simplefilter("ignore")
                        async with asyncio.timeout(_TIMEOUT_SECONDS):
                            await KINDS[kind](self._url, made, client)
                except Exception as error:
                    made.failure = f"{type(error).__name__}: {error}"
