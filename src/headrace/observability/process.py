"""What the operating system and the interpreter say about this process."""

import asyncio
import ctypes
import gc
import os
import resource
import sys
from contextlib import suppress
from contextvars import Context
from time import monotonic

#: ``malloc.h`` of glibc; other allocators have no ``mallopt``, or take it for nothing.
_M_MMAP_THRESHOLD = -3
_RETURNED_FROM_BYTES = 1024 * 1024

_GROWN_BYTES = 64 * 1024 * 1024
#: So long the values of a run are still being answered, perhaps.
_LEFT_SECONDS = 0.1
#: A collection that would wait for longer is not repeated.
_GIVEN_UP_SECONDS = 60.0
_COLLECT_SECONDS = 1.0

#: Linux; elsewhere the fallbacks below answer.
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
    """Let freed blocks of more than 1 MiB go back to the system at once, where glibc allocates.

    Left to itself glibc raises that bound to 32 MiB as soon as such a block is freed, and a process
    that has carried large states keeps hundreds of megabytes from then on.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _RETURNED_FROM_BYTES)


class LargeGarbage:
    """Collects what refers to itself once the process has grown by 64 MiB, once a second at most.

    Python counts objects and not their bytes: a few runs over large states, which LangGraph leaves
    as cycles, are far too few objects for a collection, and hold hundreds of megabytes. What was
    there before the processes were forked is frozen, and not looked at.

    What a run holds that still goes on is garbage later: a collection that frees little is
    repeated, after twice the time each time. After a minute what is left is the process's own.
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
    """Collect what a run with large values leaves, when its task has ended: before the next such
    run begins, and again when the answer has let go of the values."""
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


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
