"""prometheus-client's files of the pod's processes, and those of ended processes.

What an ended process counted must stay. Its files are folded into one for each kind of metric,
because otherwise each scrape would read files of all processes that the pod ever had. A reader
holds a shared lock, so that nothing is counted twice or left out during a fold.
"""

import fcntl
import os
import struct
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

from headrace.observability.process import is_alive

#: Stands in place of a pid; no process has it.
_FOLDED = 0
#: Gauges are not here: they come from the status slots.
_KINDS = ("counter", "histogram")


@contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Hold the shared lock: wait until no file is being folded, and allow no fold meanwhile. It
    blocks: call it from a thread.
    """
    with _lock_file(directory) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def fold_files_of_dead(directory: Path) -> None:
    """Fold the files of ended processes into one file for each kind of metric.

    Does nothing while a reader holds the lock: the end of the next process tries again.

    :raises OSError: the files cannot be read or written.
    """
    with _lock_file(directory) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        try:
            for kind in _KINDS:
                _fold(directory, kind)
        except (RuntimeError, ValueError, struct.error) as error:
            # prometheus-client raises these for a damaged file, perhaps of a killed process.
            raise OSError(f"a file of metrics is damaged: {error}") from error


@contextmanager
def _lock_file(directory: Path) -> Iterator[int]:
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield lock
    finally:
        os.close(lock)


def _fold(directory: Path, kind: str) -> None:
    dead = [path for path in directory.glob(f"{kind}_*.db") if _is_of_dead(path)]
    if not dead:
        return
    folded = directory / f"{kind}_{_FOLDED}.db"
    sums: dict[str, float] = defaultdict(float)
    for path in [*dead, *([folded] if folded.exists() else [])]:
        for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
            sums[key] += value
    # No reader opens it until it is complete: its name does not end in .db.
    draft = directory / f"{kind}_{_FOLDED}.new"
    draft.unlink(missing_ok=True)
    values = MmapedDict(str(draft))  # type: ignore[no-untyped-call]
    try:
        for key, value in sums.items():
            values.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    finally:
        values.close()  # type: ignore[no-untyped-call]
    os.replace(draft, folded)
    for path in dead:
        path.unlink()


def _is_of_dead(path: Path) -> bool:
    pid = path.stem.rpartition("_")[2]
    return pid.isdigit() and int(pid) != _FOLDED and not is_alive(int(pid))
