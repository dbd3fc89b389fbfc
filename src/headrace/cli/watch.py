"""Notices that the user's code was saved.

Compares modification times: that works on every file system, and a project is small.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic

_LOOK_SECONDS = 0.5

#: Not the user's own code.
_FOREIGN = {"__pycache__", "node_modules", "site-packages"}

#: Time, size and inode of a file: an editor that replaces the file may keep the time.
_Look = tuple[int, int, int]


class SavedFiles:
    """Python files and manifests below folders, and single files by name."""

    def __init__(self, *folders: Path, files: Iterable[Path] = ()) -> None:
        self._folders = _outermost(folders)
        self._files = list(files)
        self._seen = dict(self._look())
        self._looked_at = monotonic()

    def look_at(self, *folders: Path, files: Iterable[Path]) -> None:
        """Watch these from now on. A change after the last look counts."""
        chosen = _outermost(folders), list(files)
        if chosen != (self._folders, self._files):
            self._folders, self._files = chosen
            self._seen = {path: self._seen.get(path, look) for path, look in self._look()}

    def changed(self) -> list[Path]:
        """The files that were saved, made or removed since the last call; looks at most twice a
        second.
        """
        if monotonic() - self._looked_at < _LOOK_SECONDS:
            return []
        found = dict(self._look())
        self._looked_at = monotonic()
        before, self._seen = self._seen, found
        return sorted({path for path, _ in before.items() ^ found.items()})

    def _look(self) -> Iterator[tuple[Path, _Look]]:
        for path in self._names():
            try:
                found = path.stat()
            except OSError:
                continue  # an editor's temporary file, a link that leads nowhere
            yield path, (found.st_mtime_ns, found.st_size, found.st_ino)

    def _names(self) -> Iterator[Path]:
        yield from self._files
        for top in self._folders:
            for folder, folders, files in os.walk(top):
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
                        yield inside / name


def _outermost(folders: Iterable[Path]) -> list[Path]:
    """The folders that are not inside another one."""
    found = list(dict.fromkeys(folders))
    return [
        one for one in found if not any(one != top and one.is_relative_to(top) for top in found)
    ]
