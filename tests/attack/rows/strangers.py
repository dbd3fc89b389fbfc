"""Rows 4 to 6: what strangers can do who have no key."""

import asyncio
import random
import re
import secrets
import time
from contextlib import suppress
from functools import partial

import httpx

from tests.attack.attacker import Attacker
from tests.support.endless import ENDLESS

_SOCKETS_OF_A_KIND = 20
#: Who takes so much of one request does not bound it.
_MOST_BYTES = 32 << 20
_BLOCK_BYTES = 64 << 10

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "X")
_PUBLIC = {"/ok", "/info", "/livez", "/readyz", "/startupz", "/health", "/docs", "/redoc"}
_REFUSALS = {*range(300, 500), 503}
_RANDOM_PATHS = 10_000
#: The neighbour and the process itself may add these meanwhile.
_NEW_SERIES = 60

_SILENT_SOCKETS = 2500


async def endless(attacker: Attacker) -> None:
    """Each kind of a request that never ends, on several sockets at once."""
    kinds = list(ENDLESS.values()) * attacker.count(_SOCKETS_OF_A_KIND)
    while not attacker.over:
        await attacker.together(
            (partial(_send, attacker, *kind[:2]) for kind in kinds), parallel=24
        )


async def _send(attacker: Attacker, begin: bytes, part: bytes) -> None:
    attacker.tally.tried += 1
    block = part * (_BLOCK_BYTES // len(part))
    sent = 0
    with suppress(ConnectionError, TimeoutError):
        reader, writer = await asyncio.open_connection("127.0.0.1", attacker.address.port)
        try:
            writer.write(begin)
            async with asyncio.timeout(20):
                while sent < _MOST_BYTES:
                    writer.write(block)
                    sent += len(block)
                    await writer.drain()
                    if reader.at_eof():
                        break
        finally:
            writer.close()
    attacker.tally.judge(sent < _MOST_BYTES, f"{begin[-30:]!r} {part!r} took {sent >> 20} MiB")
    attacker.tally.refused += sent < _MOST_BYTES


async def wander(attacker: Attacker) -> None:
    """Every method on every path, thousands of paths that lead nowhere, loops on metrics."""
    paths = (await attacker.http.get("/openapi.json")).json()["paths"]
    known = [re.sub(r"{\w+}", "1", path) for path in paths]

    async def call(method: str, path: str) -> None:
        open_to_all = path in _PUBLIC or method == "OPTIONS"
        allowed = _REFUSALS | {200, 204} if open_to_all else _REFUSALS
        await attacker.ask(method, path, allowed=allowed, what=method, client=attacker.stranger)

    async def call_each(calls: list[tuple[str, str]]) -> None:
        await attacker.together((partial(call, *one) for one in calls), parallel=16)

    await call_each([(method, path) for path in known for method in _METHODS])
    # From here on every route and method of the API has its series.
    before = await _series(attacker)
    nowhere = []
    for _ in range(attacker.count(_RANDOM_PATHS)):
        parts = [random.choice(known).strip("/"), secrets.token_urlsafe(6)]
        nowhere.append((random.choice(_METHODS), "/" + "/".join(parts[:: random.choice((1, -1))])))
    await call_each(nowhere)
    after = await _series(attacker)
    attacker.tally.notes.append(f"{before} series of metrics, {after} after random paths")
    attacker.tally.judge(after - before < _NEW_SERIES, f"{after - before} new series of metrics")
    await asyncio.gather(*(_read_metrics(attacker, bool(number % 2)) for number in range(8)))


async def _series(attacker: Attacker) -> int:
    url = f"http://127.0.0.1:{attacker.address.health_port}/metrics"
    text = (await attacker.stranger.get(url)).text
    return sum(not line.startswith("#") for line in text.splitlines())


async def _read_metrics(attacker: Attacker, public: bool) -> None:
    port = attacker.address.port if public else attacker.address.health_port
    while not attacker.over:
        await attacker.ask(
            "GET",
            f"http://127.0.0.1:{port}/metrics",
            allowed={404} if public else {200, 503},
            client=attacker.stranger,
        )


#: What is sent at once, and what follows each second.
_HEAD = b"POST /threads HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
_SLOW = {
    "silent": (b"", b""),
    "half a head": (_HEAD, b""),
    "half a body": (_HEAD + b"content-length: 1000\r\n\r\n{", b""),
    "a byte a second": (_HEAD + b"a: ", b"b"),
    "a body of a byte a second": (_HEAD + b"content-length: 1000\r\n\r\n{", b" "),
    "answers that nobody reads": (b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n" * 16, b""),
}


async def occupy(attacker: Attacker) -> None:
    """More sockets than a process has files, none of which asks for anything."""
    kinds = list(_SLOW.values())
    async with asyncio.TaskGroup() as sockets:
        for number in range(attacker.count(_SILENT_SOCKETS)):
            sockets.create_task(_stay(attacker, *kinds[number % len(kinds)]))
            if number % 50 == 0:
                await asyncio.sleep(0.05)
    # Everybody is answered again, on new connections.
    for _ in range(20):
        began = time.monotonic()
        async with httpx.AsyncClient() as client:
            url = f"http://127.0.0.1:{attacker.address.port}/ok"
            answer = await attacker.ask("GET", url, client=client, what="afterwards")
        good = answer is not None and answer.status_code == 200 and time.monotonic() - began < 1
        attacker.tally.judge(good, "/ok was not answered within a second after the attack")


async def _stay(attacker: Attacker, begin: bytes, drop: bytes) -> None:
    """Until the server closes it, and then again."""
    while not attacker.over:
        attacker.tally.tried += 1
        with suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", attacker.address.port)
            try:
                writer.write(begin)
                while not attacker.over and not reader.at_eof():
                    writer.write(drop)
                    await writer.drain()
                    await asyncio.sleep(1)
            finally:
                writer.transport.abort()
        if attacker.over:
            return
        attacker.tally.refused += 1
        await asyncio.sleep(0.5)
