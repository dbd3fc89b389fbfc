"""The server that ``headrace dev`` starts: its process, its readiness, its end."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import typer

from headrace.cli.signals import StopSignals
from headrace.cli.watch import Reloader
from headrace.cli.workspace import Workspace
from headrace.observability.slots import read_slots
from headrace.server.gunicorn import arguments
from headrace.settings import Settings

_POLL_SECONDS = 0.05
_REQUEST_TIMEOUT_SECONDS = 5.0
_STRAGGLER_SECONDS = 5.0

#: After gunicorn's own limit its processes are killed.
_KILL_MARGIN_SECONDS = 10.0

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - read, not bound


class DevServer:
    """What ``headrace serve`` becomes, as a child in a session of its own: no Ctrl-C reaches it."""

    def __init__(self, settings: Settings, workspace: Workspace, signals: StopSignals) -> None:
        self._settings = settings
        self._workspace = workspace
        self._signals = signals
        self._host = _EVERYWHERE.get(settings.host, settings.host)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._signals.settle()
        with self._workspace.lock_for_server() as lock:
            self._process = subprocess.Popen(  # noqa: S603 - our own arguments, no shell
                [sys.executable, "-m", "gunicorn", *arguments(self._settings)],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
            lock.truncate(0)
            lock.write(str(self._process.pid))
        return self

    def __exit__(self, *_: object) -> None:
        if self._running():
            self._kill()

    def wait_ready(self) -> bool:
        """Wait until all processes serve; False when the server ends or is to be stopped before.

        While others serve, one that cannot be started is waited for some seconds only.
        """
        give_up_at = float("inf")
        while self._running() and not self._signals.received:
            serving = self._serving()
            if serving:
                give_up_at = min(give_up_at, time.monotonic() + _STRAGGLER_SECONDS)
            if serving >= self._settings.processes or time.monotonic() > give_up_at:
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def wait_end(self) -> int:
        """Wait until the server ends by itself, and return its exit code; or stop it when asked.

        A server stopped on request counts as 0. Meanwhile saved code is put in place.
        """
        reloader = Reloader(Path.cwd(), self._reload)
        try:
            while not self._signals.received:
                if not self._running():
                    return self._exit_code()
                reloader.step()
                time.sleep(_POLL_SECONDS)
        finally:
            reloader.stop()
        self._stop()
        return 0

    def _serving(self) -> int:
        """How many processes serve; 0 while nobody answers, or the pod is not ready."""
        if self._settings.app and self._settings.runtime_dir is not None:
            # It may have headrace's probes somewhere else, or not at all.
            return sum(slot.state == "serving" for slot in read_slots(self._settings.runtime_dir))
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(
                self._host, self._settings.port, timeout=_REQUEST_TIMEOUT_SECONDS
            )
            with contextlib.closing(connection):
                connection.request("GET", "/health")
                response = connection.getresponse()
                report = json.loads(response.read())
            if response.status == http.HTTPStatus.OK:
                return sum(one["state"] == "serving" for one in report["processes"])
        return 0

    def _reload(self) -> None:
        """New processes with the code as it is now; the old ones finish what they do."""
        assert self._process is not None
        typer.echo("reloading")
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGHUP)

    def _stop(self) -> None:
        assert self._process is not None
        already = self._signals.received
        typer.echo("\nstopping the server; Ctrl-C again kills it")
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        limit = self._settings.server.graceful_timeout_seconds + _KILL_MARGIN_SECONDS
        deadline = time.monotonic() + limit
        while self._running():
            if self._signals.received > already or time.monotonic() > deadline:
                self._kill()
            time.sleep(_POLL_SECONDS)

    def _kill(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _exit_code(self) -> int:
        assert self._process is not None
        code = self._process.wait()
        return code if code >= 0 else 128 - code
