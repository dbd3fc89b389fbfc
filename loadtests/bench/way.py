"""Starts the proxy, and tells how long a round trip and a commit take on a way to the database."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

from psycopg import AsyncConnection

from loadtests.bench.wire import Counts
from loadtests.measuring.database import MeasuredDatabase

_ROOT = Path(__file__).parents[2]
_TIMES = 100

#: Gets a transaction id and writes to the log, which is what a commit has to wait for.
_COMMIT = "SELECT pg_logical_emit_message(true, 'bench', 'x')"


class ProxyProcess:
    """A proxy that runs; ``url`` leads through it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url

    async def counts(self) -> Counts:
        """Since it began."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        return Counts(**json.loads(await self._process.stdout.readline()))


@asynccontextmanager
async def proxy(
    database: MeasuredDatabase, *, delay_ms: float = 0.0, counting: bool = False
) -> AsyncIterator[ProxyProcess]:
    """A proxy in a process of its own, so that it does not count as the client's work.

    :param delay_ms: of each direction.
    """
    host, port = database.address
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtests.bench.proxy"),
        *("--host", host, "--port", str(port), "--delay-ms", str(delay_ms)),
        *(["--count"] if counting else []),
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        own_port = int(await process.stdout.readline())
        yield ProxyProcess(process, database.through("127.0.0.1", own_port))
    finally:
        process.stdin.close()
        await process.wait()


async def way(url: str) -> dict[str, float]:
    """Milliseconds of a round trip and of what a commit adds to it: medians."""
    async with await AsyncConnection.connect(url, autocommit=True) as connection:
        trip = await _median_ms(connection, "SELECT 1")
        commit = await _median_ms(connection, _COMMIT)
    return {"round_trip_ms": round(trip, 2), "commit_ms": round(commit - trip, 2)}


async def _median_ms(connection: AsyncConnection, statement: str) -> float:
    taken = []
    for _ in range(_TIMES):
        started = perf_counter()
        await connection.execute(statement.encode())
        taken.append(perf_counter() - started)
    return median(taken) * 1000
