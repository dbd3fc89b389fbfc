"""Notices that the user's code was saved, and puts new server processes in place.

Looks at modification times: that works on every file system, and a project is small. What cannot be
served is not put in place: the graphs are checked first, and the old processes go on.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import typer

from headrace.cli.graph_check import GraphCheck

_LOOK_SECONDS = 0.5

#: Not the user's own code.
_FOREIGN = {"__pycache__", "node_modules", "site-packages"}


class SavedFiles:
    """Python files and manifests below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = dict(self._look())
        self._looked_at = monotonic()

    def changed(self) -> list[Path]:
        """What was saved, made or removed since the last call; looks twice a second at most."""
        if monotonic() - self._looked_at < _LOOK_SECONDS:
            return []
        found = dict(self._look())
        self._looked_at = monotonic()
        before, self._seen = self._seen, found
        return sorted({path for path, _ in before.items() ^ found.items()})

    def _look(self) -> Iterator[tuple[Path, int]]:
        for folder, folders, files in os.walk(self._folder):
            inside = Path(folder)
            folders[:] = [
                name
                for name in folders
                if name not in _FOREIGN
                and not name.startswith(".")
                and not (inside / name / "pyvenv.cfg").exists()
            ]
            for name in files:
                if name.endswith(".py") or name == "langgraph.json":
                    try:
                        yield inside / name, (inside / name).stat().st_mtime_ns
                    except FileNotFoundError:
                        continue  # an editor's temporary file


class Reloader:
    """Calls ``reload`` after a save, once the graphs have passed their check."""

    def __init__(self, folder: Path, reload: Callable[[], None]) -> None:
        self._folder = folder
        self._files = SavedFiles(folder)
        self._reload = reload
        self._check: GraphCheck | None = None

    def step(self) -> None:
        """Look, and return at once; to be called again and again."""
        if changed := self._files.changed():
            self.stop()
            names = {str(path.relative_to(self._folder)) for path in changed}
            typer.echo(f"saved: {', '.join(sorted(names))}")
            self._check = GraphCheck()
        elif self._check is not None and self._check.ended:
            passed = self._check.passed()
            self.stop()
            if passed:
                self._reload()
            else:
                typer.echo("what was there before goes on")

    def stop(self) -> None:
        """End a check that is under way."""
        if self._check is not None:
            self._check.stop()
            self._check = None
