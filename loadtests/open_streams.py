"""Many open streams: are heartbeats on time, what does a stream weigh, does /livez answer?

``python -m loadtests.open_streams --streams 1000`` brings its own Postgres and two processes;
the client is this process, on bare sockets. Exit code 1 when a floor is missed.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from loadtests.measuring import machine
from loadtests.measuring.database import measured_database
from loadtests.measuring.figures import percentile
from loadtests.measuring.servers import headrace_server, stop_in_order

_CONFIG = Path(__file__).with_name("streams") / "langgraph.json"
#: Streams that are opened and closed before anything is measured, so that all code is loaded.
_WARM_UP = 50
_OPENING_AT_ONCE = 50
_HEARTBEAT_SECONDS = 5.0
_PROBE_SECONDS = 0.05
_LASTING_AT_MOST_SECONDS = 10.0


@dataclass(slots=True)
class Stream(asyncio.Protocol):
    """One client: sends its request, notes when bytes come, keeps none of them."""

    request: bytes
    opened: asyncio.Event
    closed: asyncio.Event
    #: The longest silence once measuring began.
    longest_gap: float = 0.0
    measured_from: float | None = None
    heard_at: float = 0.0
    tail: bytes = b""
    status: bytes = b""
    transport: Any = field(default=None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if self.measured_from is not None:
            self.note_gap(now)
        self.heard_at = now
        if not self.status:
            self.status = data.split(b"\r\n", 1)[0]
        self.tail = (self.tail + data)[-200:]
        if b"event: end" in self.tail:
            self.closed.set()
        # The metadata event: the run is accepted and its row committed.
        if b"event: metadata" in self.tail or b" 200 " not in self.status:
            self.opened.set()

    def note_gap(self, now: float) -> None:
        assert self.measured_from is not None
        self.longest_gap = max(self.longest_gap, now - max(self.heard_at, self.measured_from))

    def connection_lost(self, exc: Exception | None) -> None:
        self.opened.set()
        self.closed.set()

    async def ended(self) -> None:
        await self.closed.wait()
        self.transport.close()

    @property
    def ended_well(self) -> bool:
        return b"event: end" in self.tail

    @property
    def end(self) -> str:
        """What it ended with: the server's word, or the last bytes of one that broke off."""
        if b" 200 " not in self.status:
            return self.status.decode(errors="replace") or "no answer"
        if b"event: error" in self.tail:
            return self.tail[self.tail.index(b"event: error") :].decode(errors="replace").strip()
        return f"broke off after {self.tail[-60:]!r}"


@dataclass(frozen=True, slots=True)
class Measured:
    """What is printed, and judged."""

    streams: int
    complete: int
    longest_silence_seconds: float
    kilobytes_per_stream: float
    livez_p99_ms: float
    opened_in_seconds: float
    #: Of those that did not end well.
    ends: Counter[str]

    def table(self) -> Iterator[tuple[str, str, str, str, bool]]:
        """Label, floor, goal, measured, whether the floor is kept."""
        silence, weight, livez = (
            self.longest_silence_seconds,
            self.kilobytes_per_stream,
            self.livez_p99_ms,
        )
        whole = self.complete == self.streams
        yield "streams that ended well", "all", "all", f"{self.complete}/{self.streams}", whole
        yield "longest silence, s", "6.0", "5.5", f"{silence:.2f}", silence <= 6.0
        yield "RSS per stream, KB", "100", "40", f"{weight:.1f}", weight <= 100
        yield "/livez p99, ms", "100", "100", f"{livez:.1f}", livez <= 100


class Client:
    """Opens streams on one server and watches it meanwhile."""

    def __init__(self, port: int) -> None:
        self._port = port

    def health(self) -> dict[str, Any]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", "/health", headers={"Connection": "close"})
            report: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return report

    def resident_bytes(self) -> int:
        return sum(one["rss_bytes"] for one in self.health()["processes"])

    async def open(self, count: int, seconds: float) -> list[Stream]:
        """``count`` streams whose runs last ``seconds``; returns when all runs are accepted."""
        gate = asyncio.Semaphore(_OPENING_AT_ONCE)
        return list(await asyncio.gather(*(self._open(seconds, gate) for _ in range(count))))

    async def _open(self, seconds: float, gate: asyncio.Semaphore) -> Stream:
        body = json.dumps({"assistant_id": "quiet", "input": {"seconds": seconds}}).encode()
        head = (
            "POST /runs/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        stream = Stream(head.encode() + body, asyncio.Event(), asyncio.Event())
        async with gate:
            await asyncio.get_running_loop().create_connection(
                lambda: stream, "127.0.0.1", self._port
            )
            await stream.opened.wait()
        return stream

    async def probe(self, until: float) -> list[float]:
        """Seconds that /livez took, each on a connection of its own."""
        taken = []
        while (began := time.monotonic()) < until:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            await reader.read()
            writer.close()
            taken.append(time.monotonic() - began)
            await asyncio.sleep(_PROBE_SECONDS)
        return taken


async def measure(port: int, *, streams: int, seconds: float) -> Measured:
    """Open ``streams``, hold them for ``seconds``, let all end by themselves."""
    client = Client(port)
    warm_up = min(_WARM_UP, streams)
    began = time.monotonic()
    for stream in await client.open(warm_up, 0.5):
        await stream.ended()
    # Runs outlast the measurement, though this machine opens no more than half as many a second.
    opening = max(streams / 40, 2 * streams * (time.monotonic() - began - 0.5) / warm_up)
    # They also outlast what is asked after it, which takes long where opening them does.
    lasting = seconds + opening + min(_LASTING_AT_MOST_SECONDS, opening)
    before = client.resident_bytes()
    began = time.monotonic()
    opened = await client.open(streams, lasting)
    opened_in = time.monotonic() - began
    if opened_in > opening:
        raise SystemExit(f"opening took {opened_in:.0f} s: the first runs ended meanwhile")
    measured_from = time.monotonic()
    for stream in opened:
        stream.measured_from = measured_from
    taken = await client.probe(measured_from + seconds)
    # What a process said of itself is up to a second old.
    after = await asyncio.to_thread(client.resident_bytes)
    now = time.monotonic()
    for stream in opened:
        stream.note_gap(now)
        stream.measured_from = None
    # One that was refused is counted as such, not as silent.
    silence = max((one.longest_gap for one in opened if b" 200 " in one.status), default=0.0)
    for stream in opened:
        await stream.ended()
    return Measured(
        streams=streams,
        complete=sum(stream.ended_well for stream in opened),
        longest_silence_seconds=silence,
        kilobytes_per_stream=(after - before) / 1024 / streams,
        livez_p99_ms=percentile(taken, 0.99) * 1000,
        opened_in_seconds=opened_in,
        ends=Counter(one.end for one in opened if not one.ended_well),
    )


@contextmanager
def server(processes: int) -> Iterator[int]:
    """A server with its own Postgres; gives its port."""
    settings = {
        "HEADRACE_WORKER__MAX_CONCURRENT_RUNS": "20000",
        "HEADRACE_OBSERVABILITY__LOG_LEVEL": "warning",
        "HEADRACE_SERVER__PING_SECONDS": f"{_HEARTBEAT_SECONDS}",
    }
    with (
        tempfile.TemporaryDirectory(prefix="headrace-streams-") as name,
        measured_database(None, durable=False) as database,
    ):
        with headrace_server(
            database.url,
            manifest=_CONFIG,
            folder=Path(name),
            processes=processes,
            settings=settings,
        ) as serving:
            yield serving.port
        sys.stdout.write(serving.log.read_text()[-2000:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print floor, goal and measured; 1 when a floor is missed."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.open_streams", description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long all are held")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where the figures go too")
    options = parser.parse_args(arguments)
    stop_in_order()
    facts = machine.facts()
    with server(options.processes) as port:
        found = asyncio.run(measure(port, streams=options.streams, seconds=options.seconds))
    if options.json:
        rows = {label: measured for label, _, _, measured, _ in found.table()}
        options.json.write_text(json.dumps({"machine": facts, **rows}, indent=2) + "\n")
    lines = [
        f"{options.streams} streams on {options.processes} processes, opened in"
        f" {found.opened_in_seconds:.1f} s, held for {options.seconds:g} s",
        f"{'':26}{'floor':>10}{'goal':>10}{'measured':>12}",
    ]
    for label, floor, goal, measured, kept in found.table():
        lines.append(
            f"{label:26}{floor:>10}{goal:>10}{measured:>12}" + ("" if kept else "  missed")
        )
    if found.complete < found.streams:
        lines.append(f"the others: {dict(found.ends)}")
    sys.stdout.write("\n".join([*lines, ""]))
    return 0 if all(kept for *_, kept in found.table()) else 1


if __name__ == "__main__":
    sys.exit(main())
