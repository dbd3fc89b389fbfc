"""The well-behaved client: a cycle of five calls each second, whatever the server does meanwhile.

A process of its own, ``python -m tests.attack.neighbour URL KEY FILE``: it writes one line of JSON
for each call. A cycle begins each second also where the one before it is not over, so that a slow
server is asked as often as a quick one.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import httpx

_EVERY_SECONDS = 1.0
#: An answer that takes longer is a failure.
_PATIENCE_SECONDS = 15.0
_WAIT = {"assistant_id": "echo", "input": {"said": "hello"}}
#: A page shows what the client made, as an app does that serves several users.
_MINE = {"metadata": {"made_by": "the neighbour"}}
_STREAM = {**_WAIT, "stream_mode": ["values"]}


@dataclass(frozen=True, slots=True)
class Call:
    at: float
    name: str
    seconds: float
    #: Empty where it went well.
    failure: str = ""


class Failed(Exception):
    """An answer that is not what it should be."""


def read_calls(file: Path) -> list[Call]:
    """Those that have been written so far; the last line may be half a line."""
    return [Call(**json.loads(line)) for line in file.read_text().splitlines(keepends=True)[:-1]]


class Neighbour:
    def __init__(self, url: str, key: str, out: IO[str]) -> None:
        self._http = httpx.AsyncClient(
            base_url=url, headers={"x-api-key": key}, timeout=_PATIENCE_SECONDS
        )
        self._out = out

    async def behave(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as cycles:
            begin = time.monotonic()
            while True:
                cycles.create_task(self._cycle())
                begin += _EVERY_SECONDS
                await asyncio.sleep(max(0.0, begin - time.monotonic()))

    async def _cycle(self) -> None:
        thread = await self._timed("create", lambda: self._post("/threads", _MINE))
        if thread is None:
            return
        path = f"/threads/{thread['thread_id']}"
        await self._timed("wait", lambda: self._wait(path))
        await self._timed("state", lambda: self._state(path))
        await self._timed("search", lambda: self._post("/threads/search", {**_MINE, "limit": 10}))
        await self._timed("stream", lambda: self._stream(path))

    async def _timed(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        at, began, failure, answer = time.time(), time.monotonic(), "", None
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                answer = await call()
        except (httpx.HTTPError, TimeoutError, Failed, ValueError, KeyError) as error:
            failure = f"{type(error).__name__} {error}"[:300]
        line = json.dumps(asdict(Call(at, name, time.monotonic() - began, failure)))
        self._out.write(line + "\n")
        self._out.flush()
        return answer

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        return _body(await self._http.post(path, json=body))

    async def _wait(self, path: str) -> None:
        values = await self._post(f"{path}/runs/wait", _WAIT)
        if values.get("said") != "hello!":
            raise Failed(f"a run answered {str(values)[:200]}")

    async def _state(self, path: str) -> None:
        values = _body(await self._http.get(f"{path}/state"))["values"]
        if values.get("said") != "hello!":
            raise Failed(f"a state has {str(values)[:200]}")

    async def _stream(self, path: str) -> None:
        answer = await self._http.post(f"{path}/runs/stream", json=_STREAM)
        if answer.status_code != 200 or "event: end" not in answer.text:
            raise Failed(f"a stream said {answer.status_code} {answer.text[-200:]}")


def _body(answer: httpx.Response) -> Any:
    if answer.status_code != 200:
        raise Failed(f"{answer.status_code} {answer.text[:200]}")
    return answer.json()


def main() -> None:
    url, key, file = sys.argv[1:]
    with Path(file).open("a") as out:
        asyncio.run(Neighbour(url, key, out).behave())


if __name__ == "__main__":
    main()
