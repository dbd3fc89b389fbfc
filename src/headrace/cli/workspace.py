"""The folder ``.headrace`` of ``headrace dev``, and the locks on it.

One ``headrace dev`` at a time holds it. Its server holds a second lock, so that the next ``headrace
dev`` can recognise and stop a server whose ``headrace dev`` was killed.
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
    """``.headrace`` of one folder. While the context is open, only this process holds it."""

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
        """The lock that servers inherit; it is held as long as one of their processes lives.

        The file names the servers' process groups, for ``stop_leftover_server``.
        """
        lock = _try_lock(self.folder / "server.lock")
        if lock is None:
            raise RuntimeError("a server of this folder still runs")
        return lock

    def stop_leftover_server(self) -> None:
        """Stop the server of a killed ``headrace dev``, if there is one."""
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
    """The file, locked until all processes that have it open close it; None if another process
    holds the lock.
    """
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
