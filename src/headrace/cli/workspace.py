"""The folder ``.headrace`` of ``headrace dev``, and who works in it.

One ``headrace dev`` at a time holds it. The server it starts holds a second lock of its own, so
that a server whose ``headrace dev`` was killed is recognised, and stopped, by the next one.
"""

import contextlib
import fcntl
import os
import signal
import time
from pathlib import Path
from typing import IO, Any, Self

import typer

from headrace.errors import StartupRefusal

_LEFTOVER_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.05


class Workspace:
    """``.headrace`` of one folder; as a context, held for this process alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: IO[Any] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "pg"

    @property
    def runtime(self) -> Path:
        return self.folder / "run"

    def __enter__(self) -> Self:
        """
        :raises StartupRefusal: HR204 when another ``headrace dev`` holds it.
        """
        self.folder.mkdir(exist_ok=True)
        (self.folder / ".gitignore").write_text("*\n")
        self._held = _try_lock(self.folder / "dev.lock")
        if self._held is None:
            raise StartupRefusal(
                "HR204",
                where=str(self.folder),
                what="headrace dev runs in this folder already",
                remedy="Stop it first, or start this one in another folder.",
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def lock_for_server(self) -> IO[Any]:
        """The lock that servers inherit; it is held as long as any process of theirs lives.

        The file names the servers' process groups, for ``stop_leftover_server``.
        """
        lock = _try_lock(self.folder / "server.lock")
        if lock is None:
            raise RuntimeError("a server of this folder still runs")
        return lock

    def stop_leftover_server(self) -> None:
        """Stop the server that a killed ``headrace dev`` left behind, when there is one."""
        path = self.folder / "server.lock"
        deadline = time.monotonic() + _LEFTOVER_STOP_SECONDS
        number: signal.Signals | None = signal.SIGTERM
        while (lock := _try_lock(path)) is None:
            groups = path.read_text().split()
            if number is not None and groups:
                pids = ", ".join(groups)
                typer.echo(f"stopping the server that a killed headrace dev left (pid {pids})")
                for group in groups:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(int(group), number)
                number = None
            if time.monotonic() > deadline:
                number = signal.SIGKILL
                deadline += _LEFTOVER_STOP_SECONDS
            time.sleep(_POLL_SECONDS)
        lock.close()


def _try_lock(path: Path) -> IO[Any] | None:
    """The file, locked until it is closed by all who have it open; None when others hold it."""
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
