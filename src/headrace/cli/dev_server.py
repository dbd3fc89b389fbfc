"""The server that ``headrace dev`` keeps running: its start, saved code, its end."""

import socket
import time
from contextlib import ExitStack
from typing import IO, Any, Self

import typer

from headrace.cli.generation import Generation
from headrace.cli.project import Project
from headrace.cli.reload import Reload, names_of
from headrace.cli.signals import StopSignals
from headrace.cli.watch import SavedFiles
from headrace.cli.workspace import Workspace

_POLL_SECONDS = 0.05


class DevServer:
    """One generation serves. A save starts the next one, and earlier ones finish their runs."""

    def __init__(
        self,
        project: Project,
        workspace: Workspace,
        signals: StopSignals,
        listener: socket.socket,
    ) -> None:
        self._project = project
        self._workspace = workspace
        self._signals = signals
        self._listener = listener
        self._stack = ExitStack()
        self._serving: Generation | None = None
        self._leaving: list[Generation] = []
        self._reload: Reload | None = None

    def __enter__(self) -> Self:
        self._signals.settle()
        folders, files = self._project.watched()
        self._files = SavedFiles(*folders, files=files)
        self._lock: IO[Any] = self._stack.enter_context(self._workspace.lock_for_server())
        self._serving = Generation(self._project.settings, self._listener, self._lock)
        self._name_groups()
        return self

    def __exit__(self, *_: object) -> None:
        if self._reload is not None:
            self._reload.stop()
        for generation in self._generations():
            if generation.running:
                generation.kill()
        self._stack.close()

    def wait_ready(self) -> bool:
        """Wait until all processes serve; False if the server ends or has to stop before."""
        assert self._serving is not None
        while self._serving.running and not self._signals.received:
            if self._serving.ready:
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def wait_end(self) -> int:
        """Keep the server running until it has to stop, and put saved code in place; returns the
        exit code.

        A server that was stopped on request counts as 0. A server that ended before it ever served
        ends this too.
        """
        assert self._serving is not None
        if not self._signals.received and not self._serving.running:
            return self._serving.exit_code
        while not self._signals.received:
            self._look_at_leaving()
            self._look_at_files()
            self._look_at_server()
            self._look_at_reload()
            time.sleep(_POLL_SECONDS)
        self._stop()
        return 0

    def _look_at_leaving(self) -> None:
        left = [one for one in self._leaving if one.look()]
        if len(left) < len(self._leaving):
            self._leaving = left
            self._name_groups()

    def _look_at_files(self) -> None:
        if changed := self._files.changed():
            self._try(names_of(changed, self._project.folder))
            folders, files = self._project.watched()
            self._files.look_at(*folders, files=files)

    def _look_at_server(self) -> None:
        """Start a server again that ended by itself; if that fails, again with the next save."""
        if self._serving is not None and not self._serving.running:
            typer.echo(f"the server has ended (exit code {self._serving.exit_code})", err=True)
            self._serving = None
            if self._reload is None:
                self._try(["started again"])

    def _look_at_reload(self) -> None:
        if self._reload is None:
            return
        before = self._reload.pid
        ready = self._reload.step()
        if ready is not None:
            if self._serving is not None:
                self._serving.stop()
                self._leaving.append(self._serving)
            self._serving, self._reload = ready, None
        elif self._reload.failed:
            self._reload = None
        elif self._reload.pid == before:
            return
        self._name_groups()

    def _try(self, names: list[str]) -> None:
        if self._reload is not None:
            self._reload.stop()
        self._reload = Reload(names, self._project, self._listener, self._lock)

    def _generations(self) -> list[Generation]:
        return [*self._leaving, *([self._serving] if self._serving is not None else [])]

    def _name_groups(self) -> None:
        """Record process groups for ``stop_leftover_server``, in case this process is killed."""
        pids = [one.pid for one in self._generations()]
        if self._reload is not None and self._reload.pid is not None:
            pids.append(self._reload.pid)
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(" ".join(map(str, pids)))
        self._lock.flush()

    def _stop(self) -> None:
        if self._reload is not None:
            self._reload.stop()
            self._reload = None
        asked = self._signals.received
        typer.echo("\nstopping; Ctrl-C again stops now")
        told = self._tell_what_is_waited_for()
        for generation in self._generations():
            generation.stop()
        hurried = False
        while running := [one for one in self._generations() if one.look()]:
            told = told or self._tell_what_is_waited_for()
            if self._signals.received > asked and not hurried:
                hurried = True
                for generation in running:
                    generation.stop_now()
            time.sleep(_POLL_SECONDS)

    def _tell_what_is_waited_for(self) -> bool:
        """Print that runs are waited for; returns whether there are any."""
        runs = sum(one.runs for one in self._generations())
        if not runs:
            return False
        seconds = self._project.settings.server.grace_seconds
        what = f"{runs} run{'s' if runs > 1 else ''}"
        typer.echo(f"waiting up to {seconds:.0f} s for {what} to end")
        return True
