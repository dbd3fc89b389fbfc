"""One cell of the bench: a contender, a workload, so many runs at so much concurrency; measured and
verified."""

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.bench.contenders import Contender, Entrant
from loadtests.bench.drive import Driver
from loadtests.bench.gauge import Gauge, Reading
from loadtests.bench.verify import Verifier
from loadtests.bench.workloads import WORKLOADS, Workload
from loadtests.measuring.database import MeasuredDatabase
from loadtests.measuring.figures import percentile


@dataclass(frozen=True)
class Sample:
    """The figures of one cell. What Postgres did is None for whoever does not use it."""

    runs_per_second: float
    p50_ms: float
    p99_ms: float
    client_cpu_ms_per_run: float
    postgres_cpu_ms_per_run: float | None
    transactions_per_run: float | None
    wal_bytes_per_run: float | None


FIGURES = tuple(Sample.__dataclass_fields__)


@dataclass(frozen=True)
class _Stretch:
    """What a stretch of runs took."""

    seconds: Sequence[float]
    elapsed_seconds: float
    cpu_seconds: float
    server: Reading


@dataclass(frozen=True)
class _Cell:
    """``runs`` counts all from opening to closing, not only those of the stretch."""

    contender: Contender
    driver: Driver
    runs: int
    stretch: _Stretch


class Bench:
    """Measures cells on one database, reached at ``url``: its own address or that of a proxy."""

    def __init__(self, database: MeasuredDatabase, gauge: Gauge, *, url: str | None = None) -> None:
        self._url = url or database.url
        self._own_url = database.url
        self._gauge = gauge
        self._verifiers = {name: Verifier(one) for name, one in WORKLOADS.items()}
        self._transactions_of_opening: dict[str, int] = {}

    async def measure(
        self, name: str, entrant: Entrant, workload: Workload, *, runs: int, concurrency: int
    ) -> Sample:
        """
        :raises LostWrites: something that was acknowledged is not there.
        """
        transactions = None
        if entrant.durable:
            opening = await self._opening(name, entrant)
            await self._gauge.empty()
            before = await self._gauge.transactions()
        cell = await self._cell(entrant, workload, runs, concurrency)
        if entrant.durable:
            committed = await self._gauge.transactions() - before - opening
            transactions = committed / cell.runs
        await self._verifiers[workload.name].verify(
            name,
            cell.contender,
            self._own_url if entrant.durable else None,
            cell.driver.runs_by_thread,
        )
        return _sample(cell.stretch, transactions)

    async def _cell(
        self, entrant: Entrant, workload: Workload, runs: int, concurrency: int
    ) -> _Cell:
        async with entrant.open(self._url) as contender:
            driver = Driver(contender, workload)
            await driver.prepare(concurrency)
            # Prepared statements, caches, and LangGraph's own first times.
            warming = await driver.drive(max(concurrency, runs // 10), concurrency)
            stretch = await self._stretch(driver, runs, concurrency)
        # Seeding a thread is a run too.
        seeding = concurrency if workload.keeps_threads else 0
        return _Cell(contender, driver, runs + len(warming) + seeding, stretch)

    async def _opening(self, name: str, entrant: Entrant) -> int:
        """Transactions that Postgres counts for opening and closing the contender alone."""
        if name not in self._transactions_of_opening:
            before = await self._gauge.transactions()
            async with entrant.open(self._url):
                pass
            self._transactions_of_opening[name] = await self._gauge.transactions() - before
        return self._transactions_of_opening[name]

    async def _stretch(self, driver: Driver, runs: int, concurrency: int) -> _Stretch:
        gc.collect()
        server = await self._gauge.read()
        cpu, started = time.process_time(), time.perf_counter()
        seconds = await driver.drive(runs, concurrency)
        elapsed, used = time.perf_counter() - started, time.process_time() - cpu
        return _Stretch(seconds, elapsed, used, await self._gauge.read() - server)


def _sample(stretch: _Stretch, transactions_per_run: float | None) -> Sample:
    """:param transactions_per_run: None for a contender to which the database is nothing."""
    runs = len(stretch.seconds)
    cpu = stretch.server.cpu_seconds
    durable = transactions_per_run is not None
    return Sample(
        runs_per_second=runs / stretch.elapsed_seconds,
        p50_ms=percentile(stretch.seconds, 0.5) * 1000,
        p99_ms=percentile(stretch.seconds, 0.99) * 1000,
        client_cpu_ms_per_run=stretch.cpu_seconds / runs * 1000,
        postgres_cpu_ms_per_run=cpu / runs * 1000 if durable and cpu is not None else None,
        transactions_per_run=transactions_per_run,
        wal_bytes_per_run=stretch.server.wal_bytes / runs if durable else None,
    )
