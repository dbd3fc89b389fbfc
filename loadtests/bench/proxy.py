"""A TCP proxy in front of Postgres that delays or counts what passes; started with ``-m``.

A delay is the way's, not the proxy's: each piece of data is passed on that long after it came, and
what comes meanwhile does not wait for it. Prints its port; answers every line on stdin with its
counts as JSON, and ends with stdin.
"""

import argparse
import asyncio
import json
import selectors
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from loadtests.bench.wire import Counts, Meter

_PIECE = 256 * 1024
#: What may be under way in one direction; beyond it the sender is slowed down, as on a real way.
_UNDER_WAY = 1024
_ENDING_SECONDS = 2.0

Watch = Callable[[bytes], None]


class Proxy:
    def __init__(self, host: str, port: int, *, delay_seconds: float, counting: bool) -> None:
        self._server = (host, port)
        self._delay = delay_seconds
        self._counting = counting
        self._open: set[asyncio.Task[Any]] = set()
        self.counts = Counts()

    async def ended(self) -> None:
        """Connections whose client is gone end by themselves; cancelling them would be an error."""
        if self._open:
            await asyncio.wait(self._open, timeout=_ENDING_SECONDS)

    async def accept(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        host, port = self._server
        if host.startswith("/"):
            server, forth = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            server, forth = await asyncio.open_connection(host, port)
        meter = Meter(self.counts) if self._counting else None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(client, forth, meter.sent if meter else None))
                group.create_task(self._pass(server, back, meter.answered if meter else None))
        except* ConnectionError:
            pass  # Whoever was cut off has noticed.
        finally:
            back.close()

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, watch: Watch | None
    ) -> None:
        """Everything from ``source`` to ``sink``, in order, each piece when it is due."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)

        async def deliver() -> None:
            while True:
                due, data = await under_way.get()
                if (left := due - loop.time()) > 0:
                    await asyncio.sleep(left)
                sink.write(data)
                await sink.drain()
                if not data:
                    break
            sink.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            while True:
                data = await source.read(_PIECE)
                if watch is not None:
                    watch(data)
                await under_way.put((loop.time() + self._delay, data))
                if not data:
                    break


async def serve(arguments: argparse.Namespace) -> None:
    proxy = Proxy(
        arguments.host,
        arguments.port,
        delay_seconds=arguments.delay_ms / 1000,
        counting=arguments.count,
    )
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0, limit=_PIECE)
    _say(str(server.sockets[0].getsockname()[1]))
    async with server:
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            _say(json.dumps(asdict(proxy.counts)))
    await proxy.ended()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="loadtests.bench.proxy")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--count", action="store_true")
    arguments = parser.parse_args()

    def loop() -> asyncio.AbstractEventLoop:
        # select() knows microseconds; epoll would round a millisecond up to two.
        return asyncio.SelectorEventLoop(selectors.SelectSelector())

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(serve(arguments))


if __name__ == "__main__":
    main()
