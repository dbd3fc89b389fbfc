"""One server of ``headrace dev``: a gunicorn master and its processes, with the present code.

Generations share one listening socket and one status board. A new generation starts beside the one
that serves. When the new one serves, the old one drains.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from headrace.observability.slots import Slot, read_slots, remove_slots_of
from headrace.server.gunicorn import arguments
from headrace.settings import Settings

#: While others serve, a process that cannot start is waited for at most this many seconds.
_STRAGGLER_SECONDS = 5.0

#: Seconds after gunicorn's own limit until its processes are killed.
_KILL_MARGIN_SECONDS = 10.0

#: Seconds after the second Ctrl-C until its processes are killed.
_QUICK_SECONDS = 3.0


class Generation:
    """A child process in a session of its own: Ctrl-C does not reach it."""

    def __init__(self, settings: Settings, listener: socket.socket, lock: IO[Any]) -> None:
        assert settings.runtime_dir is not None
        self._runtime_dir: Path = settings.runtime_dir
        self._processes = settings.processes
        self._limit_seconds = settings.server.graceful_timeout_seconds + _KILL_MARGIN_SECONDS
        self._give_up_at = float("inf")
        self._kill_at = float("inf")
        self._process = subprocess.Popen(  # noqa: S603 - our own arguments, no shell
            [sys.executable, "-m", "gunicorn", *arguments(settings, listener=listener.fileno())],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[lock.fileno(), listener.fileno()],
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether all its processes serve. While others serve, a process that cannot start is not
        waited for.
        """
        serving = sum(slot.state == "serving" for slot in self._slots())
        if serving:
            self._give_up_at = min(self._give_up_at, time.monotonic() + _STRAGGLER_SECONDS)
        return serving >= self._processes or time.monotonic() > self._give_up_at

    @property
    def runs(self) -> int:
        """The number of runs that it executes, as its processes reported within the last second."""
        return sum(slot.figures.runs_running for slot in self._slots() if slot.figures is not None)

    @property
    def exit_code(self) -> int:
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def stop(self) -> None:
        """Tell it to drain and end; its settings say how long that may take."""
        self._signal(signal.SIGTERM)
        self._kill_at = time.monotonic() + self._limit_seconds

    def stop_now(self) -> None:
        """Cut the drain: runs and streams end now, and the next start goes on with the runs."""
        self._signal(signal.SIGQUIT)
        self._kill_at = time.monotonic() + _QUICK_SECONDS

    def look(self) -> bool:
        """Whether it still runs; kills it when its time is over."""
        if self.running and time.monotonic() > self._kill_at:
            self.kill()
        return self.running

    def kill(self) -> None:
        """End it at once, and remove its processes from the board."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        remove_slots_of(self._runtime_dir, self.pid)

    def _slots(self) -> list[Slot]:
        return [slot for slot in read_slots(self._runtime_dir) if slot.master == self.pid]

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
