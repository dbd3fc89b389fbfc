"""Saved code on its way to being served: first checked, then started beside the present server.

Whatever the code does, only the attempt fails. The check runs in a process of its own, and so does
the new server, which may load other code than the check did.
"""

import socket
import sys
import time
from pathlib import Path
from typing import IO, Any

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from headrace.cli.generation import Generation
from headrace.cli.graph_check import GraphCheck
from headrace.cli.options import settings_refusal
from headrace.cli.output import complain
from headrace.cli.project import Project
from headrace.errors import StartupRefusal
from headrace.graphs.manifest import refuse_missing_files


class Reload:
    """Call :meth:`step` until it has ended.

    :param names: the files that were saved, as the log shows them.
    """

    def __init__(
        self, names: list[str], project: Project, listener: socket.socket, lock: IO[Any]
    ) -> None:
        self._names = names
        self._project = project
        self._listener = listener
        self._lock = lock
        self._began = time.monotonic()
        self._check: GraphCheck | None = None
        self._generation: Generation | None = None
        self.failed = False
        try:
            project.read_again()
            if project.manifest is not None:
                refuse_missing_files(project.manifest)
        except (ValidationError, SettingsError) as error:
            self._fail(str(settings_refusal(error)))
        except StartupRefusal as refusal:
            self._fail(str(refusal))
        except (OSError, ValueError) as error:
            # The file cannot be read, or is no text.
            self._fail(f".env or langgraph.json cannot be read: {error}")
        else:
            self._check = GraphCheck()

    @property
    def pid(self) -> int | None:
        """The server's pid, once there is one."""
        return self._generation.pid if self._generation is not None else None

    def step(self) -> Generation | None:
        """The new server once it serves; None before that, and if it has :attr:`failed`."""
        if self._check is not None:
            self._look_at_check(self._check)
        elif self._generation is not None and not self.failed:
            if self._generation.ready:
                ready, self._generation = self._generation, None
                seconds = time.monotonic() - self._began
                typer.echo(f"reloaded in {seconds:.1f} s: {', '.join(self._names)}")
                return ready
            if not self._generation.running:
                # The server has printed the reason itself.
                self._fail("")
        return None

    def stop(self) -> None:
        """Give the attempt up at any stage."""
        if self._check is not None:
            self._check.stop()
            self._check = None
        if self._generation is not None:
            self._generation.kill()
            self._generation = None

    def _look_at_check(self, check: GraphCheck) -> None:
        tell_if_slow(check)
        if not check.ended:
            return
        problem = check.problem()
        self.stop()
        if problem is None:
            self._generation = Generation(self._project.settings, self._listener, self._lock)
        else:
            self._fail(problem)

    def _fail(self, problem: str) -> None:
        self.stop()
        self.failed = True
        typer.echo(f"not reloaded: {', '.join(self._names)}", err=True)
        if problem:
            complain(problem)
        typer.echo("what was there before goes on", err=True)
        sys.stderr.flush()


def tell_if_slow(check: GraphCheck) -> None:
    """Print once where the user's code is, if its import takes long."""
    if (place := check.slow_at()) is not None:
        typer.echo(f"still importing, at {place}; Ctrl-C stops, a save begins anew", err=True)


def names_of(files: list[Path], folder: Path) -> list[str]:
    """Names for the log: paths relative to ``folder`` if they are inside."""
    names = {file.relative_to(folder) if file.is_relative_to(folder) else file for file in files}
    return sorted(map(str, names))
