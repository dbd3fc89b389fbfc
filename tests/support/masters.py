"""gunicorn masters of tests: forked from the nursery of this test process, or started anew."""

import atexit
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path

#: Variables that are read after the imports. Another variable may change what an import does.
_READ_LATE = (
    "HEADRACE_",
    "DATABASE_URL",
    "PROMETHEUS_MULTIPROC_DIR",
    "APP_",
    "CHAOS_",
    "ROLLING_",
    "OPENAI_",
    "OTEL_BSP_",
    "OTEL_EXPORTER_",
    "OTEL_TRACES_",
    "PYTEST_CURRENT_TEST",
)
_POLL_SECONDS = 0.01

#: What the nursery forks.
PRELOADED = "tests.support.preloaded_gunicorn"


class ForkedMaster:
    """What tests use of ``subprocess.Popen``, for a child of the nursery."""

    def __init__(self, pid: int, end: Path) -> None:
        self.pid = pid
        self._end = end

    def poll(self) -> int | None:
        """The exit status; None while it runs. A signal is negative."""
        try:
            return int(self._end.read_text())
        except FileNotFoundError:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """
        :raises subprocess.TimeoutExpired: it still runs.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and timeout is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("gunicorn", timeout)
            time.sleep(_POLL_SECONDS)
        return status

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        # It may have ended, and the nursery not yet told so.
        with suppress(ProcessLookupError):
            if self.poll() is None:
                os.kill(self.pid, number)


Master = ForkedMaster | subprocess.Popen[bytes]


class Nursery:
    """``tests.support.nursery`` in a process of its own."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="headrace-nursery-")
        self._numbers = count()
        self._lock = threading.Lock()
        self._environment = dict(os.environ)
        # Which kind of metrics there is depends on it when they are imported.
        several = {"PROMETHEUS_MULTIPROC_DIR": self._folder.name}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.nursery"],
            env={**_without_late(self._environment), **several},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        atexit.register(self._close)

    def knows(self, environment: Mapping[str, str]) -> bool:
        """Whether its imports are those of a process with this environment."""
        return _without_late(environment) == _without_late(self._environment)

    def fork(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        open_files: int | None,
    ) -> ForkedMaster:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        end = Path(self._folder.name) / str(next(self._numbers))
        request = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "log": str(log.absolute()),
            "open_files": open_files,
            "end": str(end),
        }
        with self._lock:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return ForkedMaster(int(self._process.stdout.readline()), end)

    def _close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()


@cache
def _nursery() -> Nursery:
    return Nursery()


def start_master(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    *,
    program: str = PRELOADED,
    open_files: int | None = None,
) -> Master:
    """Start gunicorn with the arguments that ``headrace serve`` executes it with.

    :param log: what it prints is added to this file.
    :param program: the module that runs gunicorn.
    :param open_files: the hard limit of each of its processes.
    """
    if program == PRELOADED and _nursery().knows(environment):
        return _nursery().fork(arguments, environment, log, open_files)
    command = [sys.executable, "-m", program, *arguments]
    with log.open("ab") as output:
        master = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    if open_files is not None:
        # It has started no process yet.
        resource.prlimit(master.pid, resource.RLIMIT_NOFILE, (open_files, open_files))
    return master


def _without_late(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(_READ_LATE)}
