"""The parts of the bench, in order, and the one result they make."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from time import perf_counter
from typing import Any

from loadtests.bench.cells import Bench
from loadtests.bench.comparison import (
    Samples,
    Say,
    lone_ratios_of,
    ratios_of,
    rounds,
    summary,
)
from loadtests.bench.contenders import Entrant, headrace
from loadtests.bench.gauge import Gauge
from loadtests.bench.growth import measure_growth
from loadtests.bench.large_values import compare_sizes
from loadtests.bench.options import Options
from loadtests.bench.slow_database import compare_slow
from loadtests.bench.statements import count_statements
from loadtests.bench.way import way
from loadtests.measuring import machine
from loadtests.measuring.database import MeasuredDatabase
from loadtests.measuring.figures import spread

Result = dict[str, Any]


class Parts:
    """Measures what the options ask for."""

    def __init__(
        self,
        database: MeasuredDatabase,
        options: Options,
        known: Mapping[str, Entrant],
        *,
        say: Say,
    ) -> None:
        self._database = database
        self._options = options
        self._entrants = {name: known[name] for name in options.contenders}
        self._durable = {
            name: entrant for name, entrant in self._entrants.items() if entrant.durable
        }
        self._say = say

    async def measure(self) -> Result:
        """
        :raises LostWrites: something that was acknowledged is not there.
        :raises NotSlow: a slow database could not be had.
        """
        result: Result = {
            "machine": machine.facts(),
            "postgres": {**self._database.facts(), **await way(self._database.url)},
            "options": _plain(self._options),
            "seconds": {},
        }
        parts: dict[str, Callable[[Gauge, Result], Awaitable[None]]] = {
            "throughput": self._throughput,
            "lone": self._lone,
            "statements": self._statements,
            "lanes": self._lanes,
            "large_values": self._large_values,
            "slow_database": self._slow_database,
            "growth": self._growth,
        }
        async with Gauge(self._database) as gauge:
            for name in self._options.parts:
                started = perf_counter()
                await parts[name](gauge, result)
                result["seconds"][name] = round(perf_counter() - started, 1)
        return result

    async def _throughput(self, gauge: Gauge, result: Result) -> None:
        _add(result, "contenders", await self._rounds(gauge, lone=False))

    async def _lone(self, gauge: Gauge, result: Result) -> None:
        _add(result, "lone", await self._rounds(gauge, lone=True))

    async def _rounds(self, gauge: Gauge, *, lone: bool) -> dict[str, Samples]:
        return await rounds(
            Bench(self._database, gauge),
            self._options,
            self._entrants,
            self._options.workloads,
            count=self._options.rounds,
            lone=lone,
            say=self._say,
        )

    async def _statements(self, gauge: Gauge, result: Result) -> None:
        found = await count_statements(
            self._database, gauge, self._options, self._durable, say=self._say
        )
        for workload, counted in found.items():
            result.setdefault(workload, {})["statements"] = counted

    async def _lanes(self, gauge: Gauge, result: Result) -> None:
        found = await rounds(
            Bench(self._database, gauge),
            self._options,
            self._lanes_of(),
            ("trivial",),
            count=self._options.side_rounds,
            say=self._say,
        )
        result["lanes"] = {name: summary(samples) for name, samples in found["trivial"].items()}

    async def _large_values(self, gauge: Gauge, result: Result) -> None:
        # With one connection or ten, upstream's saver does one thing at a time.
        others = {name: self._durable[name] for name in ("upstream_pool",) if name in self._durable}
        result["large_values"] = await compare_sizes(
            self._database, gauge, self._options, {**others, **self._lanes_of()}, say=self._say
        )

    async def _slow_database(self, gauge: Gauge, result: Result) -> None:
        found = await compare_slow(
            self._database, gauge, self._options, self._durable, say=self._say
        )
        slow: Result = {"way": dict(found.way)}
        _add(slow, "contenders", found.throughput)
        _add(slow, "lone", found.lone)
        result["slow_database"] = slow

    async def _growth(self, gauge: Gauge, result: Result) -> None:
        result["growth"] = await measure_growth(
            self._database, gauge, self._options, headrace(), say=self._say
        )

    def _lanes_of(self) -> dict[str, Entrant]:
        return {f"lanes={count}": headrace(lanes=count) for count in self._options.lanes}


def _add(result: Result, key: str, found: Mapping[str, Samples]) -> None:
    """Put a comparison into each workload's part of the result, and its ratios to the others."""
    for workload, samples in found.items():
        place = result.setdefault(workload, {"ratios": {}, "ratios_spread": {}})
        place[key] = {name: summary(one) for name, one in samples.items()}
        ratios = lone_ratios_of(samples) if key == "lone" else ratios_of(samples)
        for name, values in ratios.items():
            found_spread = spread(values)
            place["ratios"][name] = found_spread["median"]
            place["ratios_spread"][name] = found_spread


def _plain(options: Options) -> dict[str, Any]:
    """As JSON has it, without the folder, which is the machine's business."""
    return {name: value for name, value in asdict(options).items() if name != "results"}
