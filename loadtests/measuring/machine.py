"""On what the figures were taken, without a word about where that is."""

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

_PACKAGES = ("langgraph", "langgraph-checkpoint-postgres", "psycopg", "psycopg-pool", "uvloop")
_LOOP_STEPS = 1_000_000
_LOOP_TIMES = 5


def facts() -> dict[str, object]:
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "loop_milliseconds": loop_milliseconds(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def loop_milliseconds() -> float:
    """How long a fixed Python loop takes: the processor's speed at this moment, in Python's terms.

    A shared machine's speed changes; this figure beside a result says how fast it just was.
    """
    taken = []
    for _ in range(_LOOP_TIMES):
        started = time.perf_counter()
        total = 0
        for number in range(_LOOP_STEPS):
            total += number & 7
        taken.append(time.perf_counter() - started)
    return round(median(taken) * 1000, 1)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
