"""Servers under measurement: started in a process group of their own, watched, stopped.

What they print goes to a file; its end is told when a server does not start.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from loadtests.measuring.processors import group_cpu_seconds, group_members, resident_bytes

_READY_SECONDS = 90.0
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.1
_LOG_TAIL_BYTES = 3000

#: Of a developer's shell, these would change what is measured.
_FOREIGN = ("HEADRACE", "LANGSMITH", "LANGCHAIN", "LANGGRAPH")


class NotServing(Exception):
    """A server did not start, or died; with the end of what it printed."""


@dataclass(frozen=True)
class ServerProcess:
    """One running server; ``group`` is the process group of all its processes."""

    name: str
    port: int
    group: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """Processor time of all its processes so far, in steps of the kernel's tick (10 ms)."""
        return group_cpu_seconds(self.group)

    def rss_bytes(self) -> int:
        """Memory of all its processes; pages they share are counted in each."""
        return resident_bytes(group_members(self.group))

    def processes(self) -> int:
        return len(group_members(self.group))

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request on a connection of its own: status, and the JSON or text of the answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            given = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json", "Connection": "close"}
            connection.request(method, path, given, headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def plain_environment(**settings: str) -> dict[str, str]:
    """This process's environment without settings of servers under measurement, and ``settings``.

    Tracing to a service stays off: it is time that no server takes by itself.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**kept, "LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false", **settings}


def write_manifest(folder: Path, graphs: Mapping[str, str]) -> Path:
    """A ``langgraph.json`` with these graphs (``path.py:attribute`` by name)."""
    manifest = folder / "langgraph.json"
    manifest.write_text(json.dumps({"dependencies": ["."], "graphs": dict(graphs)}))
    return manifest


@contextmanager
def headrace_server(
    database_url: str,
    *,
    manifest: Path,
    folder: Path,
    processes: int = 2,
    settings: Mapping[str, str] | None = None,
) -> Iterator[ServerProcess]:
    """``headrace serve`` with its default settings but ``settings``, ready to answer.

    :param folder: where its log goes.
    """
    port = free_port()
    environment = plain_environment(
        DATABASE_URL=database_url,
        HEADRACE_CONFIG=str(manifest),
        HEADRACE_PROCESSES=str(processes),
        HEADRACE_PORT=str(port),
        **(settings or {}),
    )
    command = [sys.executable, "-m", "headrace", "serve"]
    with serving("headrace", command, port, environment, folder=folder) as server:
        _wait_until(server, lambda: _processes_serving(server) == processes)
        yield server


@contextmanager
def uvicorn_server(
    name: str,
    factory: str,
    *,
    folder: Path,
    processes: int = 2,
    settings: Mapping[str, str] | None = None,
    ready: str = "/openapi.json",
) -> Iterator[ServerProcess]:
    """An application factory (``module:function``) of this repository under plain uvicorn."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", factory, "--port", str(port)]
    command += ["--workers", str(processes), "--no-access-log", "--log-level", "warning"]
    environment = plain_environment(**(settings or {}))
    with serving(name, command, port, environment, folder=folder, ready=ready) as server:
        yield server


@contextmanager
def serving(
    name: str,
    command: Sequence[str],
    port: int,
    environment: Mapping[str, str],
    *,
    folder: Path,
    ready: str | None = "/readyz",
    work_dir: Path | None = None,
) -> Iterator[ServerProcess]:
    """Any server, from the moment it answers 200 on ``ready`` until it has ended.

    :param ready: None for a process that answers no HTTP: it is not waited for.
    :raises NotServing: it ended, or was not ready in time.
    """
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            env=dict(environment),
            cwd=work_dir,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    server = ServerProcess(name, port, process.pid, log)
    try:
        if ready is not None:
            path = ready
            _wait_until(server, lambda: _answers(server, path), process)
        yield server
    finally:
        _stop(process)


def _wait_until(
    server: ServerProcess, is_true: Any, process: subprocess.Popen[bytes] | None = None
) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        if is_true():
            return
        time.sleep(_POLL_SECONDS)
    tail = server.log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
    raise NotServing(f"{server.name} did not start:\n{tail}")


def _answers(server: ServerProcess, path: str) -> bool:
    try:
        return server.ask("GET", path)[0] == 200
    except (OSError, HTTPException):
        return False


def _processes_serving(server: ServerProcess) -> int:
    try:
        _, health = server.ask("GET", "/health")
        return sum(one["state"] == "serving" for one in health["processes"])
    except (OSError, HTTPException, TypeError, KeyError):
        return 0


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the first process, as a supervisor does; then an end to all that is left."""
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
