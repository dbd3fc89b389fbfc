"""Resident memory of server processes over time, and whether it is flat."""

import asyncio
import time
from collections.abc import Mapping, Sequence

from tests.chaos.pods import Pod

Samples = Sequence[tuple[float, int]]

_EVERY_SECONDS = 0.5
#: A process's first part is warm-up: imports, first uses of everything, caches that fill.
_WARM_UP = 1 / 3
#: What is watched for less than this is not judged: its warm-up is not over.
MIN_SECONDS = 20.0
#: By as much a process may grow over the rest of the time it was watched.
MAX_GROWTH_BYTES = 8 << 20


async def watch(pods: Sequence[Pod], memory: dict[str, list[tuple[float, int]]]) -> None:
    """Add to ``memory``, by process, until cancelled."""
    while True:
        for pod in pods:
            for process, size in pod.memory().items():
                memory.setdefault(process, []).append((time.monotonic(), size))
        await asyncio.sleep(_EVERY_SECONDS)


def growth(samples: Samples) -> float | None:
    """Bytes by which a process grows from its warm-up on, along the line of least squares; None
    where it was not watched for long enough."""
    if not samples or samples[-1][0] - samples[0][0] < MIN_SECONDS:
        return None
    begun = samples[0][0] + (samples[-1][0] - samples[0][0]) * _WARM_UP
    after = [(at - begun, size) for at, size in samples if at >= begun]
    return _slope(after) * after[-1][0]


def judged(memory: Mapping[str, Samples]) -> dict[str, float]:
    """The growth of each process that was watched for long enough."""
    found = {process: growth(samples) for process, samples in memory.items()}
    return {process: grown for process, grown in found.items() if grown is not None}


def _slope(points: Samples) -> float:
    mean_at = sum(at for at, _ in points) / len(points)
    mean_size = sum(size for _, size in points) / len(points)
    spread = sum((at - mean_at) ** 2 for at, _ in points)
    return sum((at - mean_at) * (size - mean_size) for at, size in points) / spread
