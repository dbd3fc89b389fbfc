"""How long a small put takes while another thread writes large checkpoints, against quiet.

Small puts come on a fixed beat, on several threads, and each is timed from its beat: one that could
not even begin because something held up the process has waited all the same. The large values are
random bytes, such as a picture's, which no compression makes smaller.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import perf_counter
from typing import Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint

from loadtests.bench import plain_rows
from loadtests.bench.comparison import Say
from loadtests.bench.contenders import Entrant
from loadtests.bench.gauge import Gauge
from loadtests.bench.options import Options
from loadtests.measuring.database import MeasuredDatabase
from loadtests.measuring.figures import percentile, spread

#: Threads with small values, and how often each is put to.
_THREADS = 8
_BEAT_SECONDS = 0.04
_SMALL_BYTES = 200

#: The row of the table in which no saver takes part.
ALONE = "postgres alone"

Put = Callable[[str], Awaitable[None]]


async def compare_sizes(
    database: MeasuredDatabase,
    gauge: Gauge,
    options: Options,
    entrants: Mapping[str, Entrant],
    *,
    say: Say,
) -> dict[str, dict[str, Any]]:
    """By contender: p99 of small puts, quiet and beside large ones, and the ratio of each round.

    First of them is Postgres alone.
    """
    found: dict[str, list[dict[str, float]]] = {ALONE: [], **{name: [] for name in entrants}}
    for number in range(options.side_rounds):
        for name in found:
            say(f"large values, round {number + 1}/{options.side_rounds}: {name}")
            await gauge.empty()
            figures = (
                await _postgres_alone(database.url, options)
                if name == ALONE
                else await _contender(entrants[name], database.url, options)
            )
            found[name].append(figures)
    return {
        name: {figure: spread([one[figure] for one in rounds]) for figure in rounds[0]}
        for name, rounds in found.items()
    }


async def _contender(entrant: Entrant, url: str, options: Options) -> dict[str, float]:
    async with entrant.open(url) as contender:
        assert contender.saver is not None
        chains = [Chain(contender.saver) for _ in range(_THREADS)]
        large = _large_puts(contender.saver, options.large_value_bytes)
        return await _compare([one.put for one in chains], large, options)


async def _postgres_alone(url: str, options: Options) -> dict[str, float]:
    async with plain_rows.rows(url, _THREADS) as small:
        large = plain_rows.large_rows(url, options.large_value_bytes)
        return await _compare([one.put for one in small], large, options)


async def _compare(
    puts: Sequence[Put], large: AbstractAsyncContextManager[list[int]], options: Options
) -> dict[str, float]:
    seconds = options.large_values_seconds
    await _small_puts(puts, seconds / 4)
    quiet = await _small_puts(puts, seconds)
    async with large as written:
        beside = await _small_puts(puts, seconds)
    p99, p99_beside = percentile(quiet, 0.99), percentile(beside, 0.99)
    return {
        "quiet_p99_ms": p99 * 1000,
        "beside_large_p99_ms": p99_beside * 1000,
        "ratio": p99_beside / p99,
        "large_puts": sum(written),
    }


async def _small_puts(puts: Sequence[Put], seconds: float) -> list[float]:
    """Seconds from its beat to its commit, of each small put."""
    begin = perf_counter()
    taken: list[float] = []

    async def put_on_beat(number: int, put: Put) -> None:
        # Not all threads on the same beat.
        due = begin + number * _BEAT_SECONDS / len(puts)
        # Whoever cannot keep up with the beat is cut off at the end, not let run on.
        while max(due, perf_counter()) < begin + seconds:
            await asyncio.sleep(max(0.0, due - perf_counter()))
            # The loop's timers are good to a millisecond, and may be early.
            started = min(due, perf_counter())
            await put("x" * _SMALL_BYTES)
            taken.append(perf_counter() - started)
            due += _BEAT_SECONDS

    async with asyncio.TaskGroup() as group:
        for number, put in enumerate(puts):
            group.create_task(put_on_beat(number, put), name=f"small-{number}")
    return taken


@asynccontextmanager
async def _large_puts(saver: BaseCheckpointSaver[Any], size: int) -> AsyncIterator[list[int]]:
    """Inside the block one large checkpoint follows the other; a 1 for each."""
    written: list[int] = []
    leaving = asyncio.Event()
    chain, value = Chain(saver), os.urandom(size)

    async def put_large() -> None:
        while not leaving.is_set():
            await chain.put(value)
            written.append(1)

    async with asyncio.TaskGroup() as group:
        group.create_task(put_large(), name="large")
        yield written
        leaving.set()


class Chain:
    """Checkpoints of one thread, each after the other, each with another value."""

    def __init__(self, saver: BaseCheckpointSaver[Any]) -> None:
        self._saver = saver
        self._config: RunnableConfig = {
            "configurable": {"thread_id": str(uuid4()), "checkpoint_ns": ""}
        }
        self._version: str | None = None

    async def put(self, value: str | bytes) -> None:
        """Return when it is committed."""
        self._version = self._saver.get_next_version(self._version, None)
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"value": [value]}
        checkpoint["channel_versions"] = {"value": self._version}
        self._config = await self._saver.aput(
            self._config, checkpoint, {"source": "loop", "step": 0}, {"value": self._version}
        )
