"""What Postgres alone makes of small values beside large ones: rows, each committed by itself.

The large ones come from another process, this module started with ``-m``. Whoever commits waits
until the log is on disk up to that commit, what others wrote before included; so this is what the
server and its disk leave to any saver.
"""

import asyncio
import os
import select
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import AsyncConnection

_ROOT = Path(__file__).parents[2]

_INSERT = """
INSERT INTO checkpoint_blobs (thread_id, channel, version, type, blob)
VALUES (%s, 'value', %s, 'bytes', %b)
"""


class Rows:
    """Rows of one thread on a connection of its own."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def put(self, value: str) -> None:
        """Return when it is committed."""
        await self._connection.execute(_INSERT, [str(uuid4()), str(uuid4()), value.encode()])


@asynccontextmanager
async def rows(url: str, count: int) -> AsyncIterator[list[Rows]]:
    """So many connections, each for itself."""
    async with AsyncExitStack() as stack:
        yield [
            Rows(
                await stack.enter_async_context(
                    await AsyncConnection.connect(url, autocommit=True, prepare_threshold=0)
                )
            )
            for _ in range(count)
        ]


@asynccontextmanager
async def large_rows(url: str, size: int) -> AsyncIterator[list[int]]:
    """Inside the block another process writes one large row after the other.

    :returns: a list that afterwards holds their number.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtests.bench.plain_rows", str(size)),
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    # Not as an argument: a URL may hold a password, and arguments can be seen by everybody.
    process.stdin.write(f"{url}\n".encode())
    written: list[int] = []
    try:
        await process.stdout.readline()
        yield written
    finally:
        process.stdin.close()
        written.append(int(await process.stdout.readline()))
        await process.wait()


def main() -> None:
    """Write until stdin ends."""
    value, number = os.urandom(int(sys.argv[1])), 0
    with psycopg.connect(sys.stdin.readline().strip(), autocommit=True) as connection:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while not select.select([sys.stdin], [], [], 0)[0]:
            connection.execute(_INSERT, [str(uuid4()), str(uuid4()), value])
            number += 1
    sys.stdout.write(f"{number}\n")


if __name__ == "__main__":
    main()
