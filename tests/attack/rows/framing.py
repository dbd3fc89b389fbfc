"""Rows 20 and 21: bodies that are too deep or too long, and requests within requests."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

from tests.attack.attacker import Attacker
from tests.support.smuggled import SMUGGLED, smuggled

_WHOLE_BYTES = 1 << 30
_PIECE = b" " * (1 << 16)
_LEVELS = (129, 1_000, 100_000, 2_000_000)
_FORMS = (
    (b"[", b"]"),
    (b'{"a":', b"}"),
    (b'[{"a":[', b"]}]"),
    (b"[", b""),
    (b'{"a":', b""),
)
_REFUSED = {400, 401, 404, 405, 409, 413, 415, 422, 503}


async def sink(attacker: Attacker) -> None:
    """Deep bodies to every route, and bodies without end by chunks."""
    paths = (await attacker.http.get("/openapi.json")).json()["paths"]
    routes = [
        (method.upper(), path.replace("{", "").replace("}", ""))
        for path, operations in paths.items()
        for method, operation in operations.items()
        if "requestBody" in operation
    ]
    bombs = [begin * levels + b"1" + end * levels for levels in _LEVELS for begin, end in _FORMS]
    inside = [b'{"assistant_id":"echo","input":' + bomb + b"}" for bomb in bombs]
    deep = [
        partial(attacker.ask, method, path, bomb, allowed=_REFUSED, what=f"{method} {path}")
        for bomb in [*bombs, *inside]
        for method, path in routes
    ]
    random.shuffle(deep)
    await attacker.together(deep[: attacker.count(len(deep), 40)], parallel=6)
    size = attacker.count(_WHOLE_BYTES, 16 << 20)
    await asyncio.gather(
        _pour(attacker, "/threads", size, with_key=True),
        _pour(attacker, "/runs/wait", size, with_key=True),
        _pour(attacker, "/threads", size, with_key=False),
        _pour(attacker, "/nothing", size, with_key=True),
        _pour(attacker, "/ok", size, with_key=False),
        _pour(attacker, "/docs/assets/favicon.png", size, with_key=False),
    )


async def _pour(attacker: Attacker, path: str, size: int, *, with_key: bool) -> None:
    """A body of so many bytes; its memory is looked at from outside."""
    client = attacker.http if with_key else attacker.stranger

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(size // len(_PIECE)):
            yield _PIECE

    attacker.tally.tried += 1
    try:
        answer = await client.post(
            path, content=pieces(), headers={"content-type": "application/json"}
        )
        attacker.tally.judge(400 <= answer.status_code < 500, f"{path}: {answer.status_code}")
        attacker.tally.refused += answer.status_code >= 400
    except OSError:
        attacker.tally.refused += 1
    except Exception as error:
        # httpx has many names for a connection that was closed.
        attacker.tally.judge("Timeout" not in type(error).__name__, f"{path}: {error!r}")
        attacker.tally.refused += 1


async def smuggle(attacker: Attacker) -> None:
    """Each case on connections of its own, in one piece and byte by byte."""
    while True:
        for case in SMUGGLED:
            for slowly in (False, True):
                for path in ("/threads", "/runs/wait", "/ok", "/nothing"):
                    await _send(attacker, case, path, slowly=slowly)
        if attacker.over:
            return


async def _send(attacker: Attacker, case: str, path: str, *, slowly: bool) -> None:
    attacker.tally.tried += 1
    found = b""
    with suppress(ConnectionError, TimeoutError):
        reader, writer = await asyncio.open_connection("127.0.0.1", attacker.address.port)
        try:
            data = smuggled(case, path)
            parts = [data[at : at + 7] for at in range(0, len(data), 7)] if slowly else [data]
            for part in parts:
                writer.write(part)
                await writer.drain()
                if slowly:
                    await asyncio.sleep(0)
            async with asyncio.timeout(20):
                found = await reader.read()
        finally:
            writer.close()
    answers = found.count(b"HTTP/1.1 ")
    attacker.tally.judge(answers <= 1, f"{case}: {answers} answers to one request")
    attacker.tally.judge(b" 500 " not in found, f"{case}: 500")
    attacker.tally.refused += answers <= 1
