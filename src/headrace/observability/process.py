"""What the operating system and the interpreter say about this process."""

import asyncio
import ctypes
import gc
import os
import resource
import socket
import sys
from contextlib import suppress
from contextvars import Context
from time import monotonic
from typing import Any

#: From ``malloc.h`` of glibc; other allocators have no ``mallopt`` or ignore it.
_M_MMAP_THRESHOLD = -3
_RETURNED_FROM_BYTES = 1024 * 1024

_GROWN_BYTES = 64 * 1024 * 1024
#: After a run's end its answer may still hold the values for this many seconds.
_LEFT_SECONDS = 0.1
#: The longest pause before a repeated collection, in seconds.
_GIVEN_UP_SECONDS = 60.0
_COLLECT_SECONDS = 1.0

#: Linux only; elsewhere the fallbacks below are used.
_STATM = "/proc/self/statm"


def resident_bytes() -> int:
    """Resident memory now; where /proc is missing, its peak so far."""
    try:
        with open(_STATM, encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def return_large_blocks() -> None:
    """Let glibc return freed blocks of more than 1 MiB to the system at once.

    By default glibc raises that bound, up to 32 MiB, whenever a larger block is freed. Then a
    process that has carried large states keeps hundreds of megabytes.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _RETURNED_FROM_BYTES)


class LargeGarbage:
    """Collects cyclic garbage once the process has grown by 64 MiB, at most once a second.

    Python counts objects, not bytes. LangGraph leaves the states of runs in cycles. A few large
    states are too few objects for a collection, but hold hundreds of megabytes. Objects from before
    the fork are frozen and not examined.

    A run that still goes on keeps its objects; they become garbage later. So a collection that
    frees little is repeated, each time after twice the pause. After a minute the rest is memory
    that the process needs.
    """

    def __init__(self) -> None:
        self._least = resident_bytes()
        self._collected_at = 0.0
        self._pause_seconds = _COLLECT_SECONDS

    def look(self) -> None:
        resident = resident_bytes()
        if resident - self._least <= _GROWN_BYTES:
            self._least = min(self._least, resident)
            self._pause_seconds = _COLLECT_SECONDS
        elif monotonic() - self._collected_at > self._pause_seconds:
            gc.collect()
            self._collected_at, left = monotonic(), resident_bytes()
            freed_much = resident - left > _GROWN_BYTES
            self._pause_seconds = _COLLECT_SECONDS if freed_much else 2 * self._pause_seconds
            if self._pause_seconds > _GIVEN_UP_SECONDS:
                self._least, self._pause_seconds = left, _COLLECT_SECONDS


def collect_soon() -> None:
    """Collect the garbage of a run with large values. Call it when the run ends.

    It collects when the run's task has ended, before the next such run begins, and again when the
    answer has released the values.
    """
    loop = asyncio.get_running_loop()
    loop.call_soon(gc.collect, context=Context())
    loop.call_later(_LEFT_SECONDS, gc.collect, context=Context())


def open_files() -> int:
    """Open file descriptors, sockets included; 0 where the system does not tell."""
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(directory)) - 1  # one of them is the listing's own
        except OSError:
            continue
    return 0


def collections_by_generation() -> tuple[int, ...]:
    """Garbage collections since start, youngest generation first."""
    return tuple(int(generation["collections"]) for generation in gc.get_stats())


def process_name() -> str:
    """The host and the pid, as log lines and rows of ``processes`` name a process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def process_place() -> dict[str, Any]:
    """The host and the pid, as rows name a process."""
    return {"hostname": socket.gethostname(), "pid": os.getpid()}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
