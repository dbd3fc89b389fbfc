"""Starts real gunicorn with headrace's worker class, and talks to it as clients and probers do."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx

from headrace.server.gunicorn import arguments
from headrace.settings import Settings
from tests.support.masters import PRELOADED, Master, start_master
from tests.support.waiting import wait_until

APPLICATION = "tests.support.process_app:create_app()"


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different ones."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


class ServerUnderTest:
    """One gunicorn master and its processes, in a folder of their own."""

    application = APPLICATION
    #: The module that runs gunicorn.
    program = PRELOADED

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.port, self.health_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.health_url = f"http://127.0.0.1:{self.health_port}"
        self.runtime_dir = folder / "runtime"
        self.journal_file = folder / "journal"
        self.log_file = folder / "log"
        metrics = self.runtime_dir / "metrics"
        metrics.mkdir(parents=True)
        own = {
            "HEADRACE_PORT": str(self.port),
            "HEADRACE_RUNTIME_DIR": str(self.runtime_dir),
            "HEADRACE_SERVER__SHUTDOWN_MARGIN_SECONDS": "1",
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
            "APP_JOURNAL": str(self.journal_file),
        }
        kept = {name: value for name, value in os.environ.items() if "HEADRACE" not in name}
        self._environment = {**kept, **own, **environment}
        self._open_files: int | None = None
        self.master: Master | None = None

    def open_health_port(self) -> None:
        """Let it answer health and metrics on ``health_port``; before ``start``."""
        self._environment["HEADRACE_METRICS__PORT"] = str(self.health_port)

    def limit_open_files(self, count: int) -> None:
        """Of each of its processes; before ``start``."""
        self._open_files = count

    def start(self) -> None:
        self.log_file.write_bytes(b"")
        self._start_master()

    def _start_master(self) -> None:
        self.master = start_master(
            self._arguments(),
            self._environment,
            self.log_file,
            program=self.program,
            open_files=self._open_files,
        )

    def _arguments(self) -> list[str]:
        before = dict(os.environ)
        os.environ.update(self._environment)
        try:
            return arguments(Settings(), application=self.application)
        finally:
            os.environ.clear()
            os.environ.update(before)

    def wait_ready(self, processes: int = 2) -> None:
        wait_until(lambda: self.journal().count("up") >= processes, seconds=60)
        wait_until(lambda: self.get("/readyz").status_code == 200)

    def get(self, path: str) -> httpx.Response:
        """A request on a connection of its own."""
        return httpx.get(self.url + path, timeout=5.0)

    def get_slowly(self, path: str) -> httpx.Response:
        """One whose answer takes its time."""
        return httpx.get(self.url + path, timeout=60.0)

    def health(self, path: str) -> httpx.Response:
        """The same on the port of health and metrics."""
        return httpx.get(self.health_url + path, timeout=5.0)

    def journal(self) -> list[str]:
        """What happened, without pids."""
        return [line.split(" ", 1)[1] for line in self._journal_lines()]

    def pids(self, event: str = "up") -> list[int]:
        return [int(line.split()[0]) for line in self._journal_lines() if line.endswith(event)]

    def _journal_lines(self) -> list[str]:
        with suppress(FileNotFoundError):
            return self.journal_file.read_text().splitlines()
        return []

    def log(self) -> str:
        return self.log_file.read_text()

    def signal(self, number: signal.Signals, pid: int | None = None) -> None:
        assert self.master is not None
        os.kill(pid if pid is not None else self.master.pid, number)

    def wait_exit(self, seconds: float) -> int:
        """The exit status of the master."""
        assert self.master is not None
        try:
            return self.master.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still runs; its log:\n{self.log()[-10_000:]}") from None

    def close(self) -> None:
        """End what a failed test left."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if self.master is not None and self.master.poll() is None:
            self.master.terminate()
            try:
                self.master.wait(5)
            except subprocess.TimeoutExpired:
                self.master.kill()
                self.master.wait(5)


@contextmanager
def server(
    folder: Path,
    *,
    with_health_port: bool = False,
    open_files: int | None = None,
    **environment: str,
) -> Iterator[ServerUnderTest]:
    under_test = ServerUnderTest(folder, **environment)
    if with_health_port:
        under_test.open_health_port()
    if open_files is not None:
        under_test.limit_open_files(open_files)
    under_test.start()
    try:
        yield under_test
    finally:
        under_test.close()


class Prober:
    """Asks /readyz again and again on new connections, as a kubelet does, only faster."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.reasons: list[str] = []
        self.statuses: list[int] = []
        self._refused_at: list[float] = []
        self._stopped_at = float("inf")

    @property
    def refused(self) -> int:
        """Probes without an answer."""
        return len(self._refused_at)

    @property
    def refused_before_the_end(self) -> int:
        """The same where the whole pod ends: in the last second everything may be closed."""
        ends_at = min(self._stopped_at, time.monotonic())
        return len([moment for moment in self._refused_at if moment < ends_at - 1.0])

    async def probe_for_ever(self) -> None:
        try:
            await self._probe_for_ever()
        finally:
            self._stopped_at = time.monotonic()

    async def _probe_for_ever(self) -> None:
        async with httpx.AsyncClient(
            base_url=self._url, headers={"Connection": "close"}, timeout=5.0
        ) as client:
            while True:
                try:
                    response = await client.get("/readyz")
                except httpx.HTTPError:
                    self._refused_at.append(time.monotonic())
                else:
                    self.statuses.append(response.status_code)
                    self.reasons += json.loads(response.content).get("reasons", [])
                await asyncio.sleep(0.02)
