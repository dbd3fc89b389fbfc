"""What processes took: processor time and memory, as /proc tells it.

Times are in nanoseconds where the kernel counts so, else in ticks of a hundredth of a second, which
are too coarse for a few requests.
"""

import os
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
#: Fields of /proc/<pid>/stat after the command's name: parent, group, and four times in ticks.
_PARENT, _GROUP, _OWN_TIMES, _CHILDREN_TIMES = 1, 2, slice(11, 13), slice(13, 15)


def postmaster_of(backend: int) -> int | None:
    """The parent of a backend, if both are Postgres on this machine."""
    found = _stat(backend)
    if found is None or not _is_postgres(backend):
        return None
    parent = int(found[_PARENT])
    return parent if _is_postgres(parent) else None


def cpu_seconds(parent: int | None) -> float | None:
    """Of a process and its children, those that have ended too; None for none.

    For processes of one thread, as those of Postgres.
    """
    if parent is None:
        return None
    seconds = 0.0
    for pid, found in _all():
        if parent not in (pid, int(found[_PARENT])):
            continue
        seconds += _on_cpu_seconds(pid, found)
        if pid == parent:
            seconds += _seconds(found[_CHILDREN_TIMES])
    return seconds


def group_cpu_seconds(group: int) -> float:
    """Of all threads of all processes of a process group, children that have ended included."""
    return sum(
        max(_seconds(found[_OWN_TIMES]), _threads_seconds(pid)) + _seconds(found[_CHILDREN_TIMES])
        for pid, found in _all()
        if int(found[_GROUP]) == group
    )


def busy_seconds() -> float | None:
    """Of all programs on all processors since the machine started; None without /proc."""
    try:
        times = (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq = map(int, times[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def group_members(group: int) -> list[int]:
    return [pid for pid, found in _all() if int(found[_GROUP]) == group]


def resident_bytes(pids: list[int]) -> int:
    """Memory of these processes; what they share is counted in each."""
    pages = 0
    for pid in pids:
        try:
            pages += int((_PROC / str(pid) / "statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def _is_postgres(pid: int) -> bool:
    try:
        return (_PROC / str(pid) / "comm").read_text().startswith("postgres")
    except OSError:
        return False


def _all() -> list[tuple[int, list[str]]]:
    if not _PROC.is_dir():
        return []
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]
    return [(pid, found) for pid in pids if (found := _stat(pid)) is not None]


def _on_cpu_seconds(pid: int, stat: list[str]) -> float:
    """The two times in ``stat``, exact: its processes have one thread each."""
    try:
        text = (_PROC / str(pid) / "schedstat").read_text()
    except OSError:
        return _seconds(stat[_OWN_TIMES])
    return int(text.split()[0]) / 1e9


def _threads_seconds(pid: int) -> float:
    """Of the threads that are alive, exact; threads that have ended are only in ``stat``."""
    total = 0
    for path in (_PROC / str(pid) / "task").glob("*/schedstat"):
        # A thread may end meanwhile.
        with suppress(OSError):
            total += int(path.read_text().split()[0])
    return total / 1e9


def _seconds(ticks: list[str]) -> float:
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str] | None:
    """The fields after the command's name, which may itself hold spaces and brackets."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()
