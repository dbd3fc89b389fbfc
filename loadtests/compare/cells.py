"""One cell of the comparison: a contender, a workload, so many seconds of a closed loop."""

from dataclasses import dataclass, fields

from loadtests.common.server import samples_of
from loadtests.compare.contenders import HttpContender, Served
from loadtests.compare.options import CompareOptions
from loadtests.compare.workloads import WORKLOADS
from loadtests.measuring.apart import LoadFailed, load_process
from loadtests.measuring.client import Load, Outcome
from loadtests.measuring.database import PostgresProcessor
from loadtests.measuring.figures import percentile
from loadtests.measuring.servers import ServerProcess

#: A share of answers that may fail before a cell counts as not measured.
_FAILED_SHARE = 0.01
#: What has no answer so long after the end counts as unanswered.
_DRAIN_SECONDS = 5.0


class NotMeasured(Exception):
    """A contender did not do what a workload asks; with the reason."""


@dataclass(frozen=True)
class HttpSample:
    """Figures of one cell; processor time is for one answer, None where it is not known."""

    per_second: float
    p50_ms: float
    p99_ms: float
    server_cpu_ms: float
    postgres_cpu_ms: float | None
    client_cpu_ms: float
    #: Requests that never had an answer, or not within seconds after the end.
    unanswered: int = 0

    @property
    def cpu_ms(self) -> float:
        """Of the server and its Postgres."""
        return self.server_cpu_ms + (self.postgres_cpu_ms or 0.0)

    @property
    def client_cores(self) -> float:
        """What the client takes of a core beside the server."""
        return self.client_cpu_ms * self.per_second / 1000


FIGURES = tuple(one.name for one in fields(HttpSample))


class Cells:
    """Measures one running contender."""

    def __init__(self, contender: HttpContender, served: Served, options: CompareOptions) -> None:
        self._contender = contender
        self._served = served
        self._options = options
        database = served.database
        self._postgres = None if database is None else PostgresProcessor(database)

    @property
    def contender(self) -> HttpContender:
        return self._contender

    @property
    def port(self) -> int:
        return self._served.port

    def warm_up(self, workload: str, *, seconds: float) -> None:
        """
        :raises NotMeasured: it refused or broke off; not if it was too slow to answer at all.
        """
        outcome, _ = self._drive(workload, seconds)
        self._require_good(workload, outcome)

    def measure(self, workload: str) -> HttpSample:
        """
        :raises NotMeasured: it refused, broke off or answered nothing.
        """
        outcome, spent = self._drive(workload, self._options.seconds)
        self._require_good(workload, outcome)
        if not outcome.good(workload):
            raise NotMeasured(f"{workload}: no answer in {self._options.seconds:g} s")
        return self._sample(workload, outcome, spent)

    def _drive(self, workload: str, seconds: float) -> tuple[Outcome, list[float]]:
        """And the seconds of processor time that servers and Postgres spent."""
        load = Load(
            self._served.port,
            WORKLOADS[workload].script(self._contender.traits),
            connections=self._options.connections,
            seconds=seconds,
            settle_seconds=self._options.settle_seconds,
            drain_seconds=_DRAIN_SECONDS,
        )
        try:
            with load_process(load) as process:
                process.wait_begun()
                before = self._processors()
                process.wait_ended()
                after = self._processors()
                outcome = process.outcome()
        except LoadFailed as error:
            raise NotMeasured(f"{workload} could not be prepared") from error
        return outcome, [late - early for early, late in zip(before, after, strict=True)]

    def _require_good(self, workload: str, outcome: Outcome) -> None:
        answers, failed = outcome.good(workload), outcome.failed()
        if failed > _FAILED_SHARE * (answers + failed):
            told = {name: dict(one) for name, one in outcome.statuses.items()}
            raise NotMeasured(f"{workload}: answers {told}, {outcome.broken} connections broke")

    def analyze(self) -> None:
        if self._served.database is not None:
            self._served.database.analyze()

    def statements(self) -> "Statements":
        return Statements(self._served.servers[0])

    def _processors(self) -> tuple[float, float]:
        """Seconds so far: of the servers, and of Postgres (0 where it is not known)."""
        postgres = self._postgres and self._postgres.seconds()
        return self._served.cpu_seconds(), postgres or 0.0

    def _sample(self, workload: str, outcome: Outcome, spent: list[float]) -> HttpSample:
        answers = outcome.good(workload)
        latencies = outcome.latencies[workload]
        return HttpSample(
            per_second=outcome.per_second(workload),
            p50_ms=percentile(latencies, 0.5) * 1000,
            p99_ms=percentile(latencies, 0.99) * 1000,
            server_cpu_ms=spent[0] / answers * 1000,
            postgres_cpu_ms=spent[1] / answers * 1000 if spent[1] else None,
            client_cpu_ms=outcome.cpu_seconds / answers * 1000,
            unanswered=outcome.unanswered,
        )


class Statements:
    """What headrace counts itself: statements and transactions of its runs.

    Its processes add to these counters once a second, so read them a while after the work.
    """

    _RUNS = "headrace_runs_total"
    _COUNTED = ("headrace_database_statements_total", "headrace_database_transactions_total")

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._before = self._read()

    def per_run(self) -> tuple[float, float] | None:
        """Statements and transactions of a run since the beginning; None without a run."""
        runs, *counted = (
            after - before for before, after in zip(self._before, self._read(), strict=True)
        )
        return (counted[0] / runs, counted[1] / runs) if runs else None

    def _read(self) -> list[float]:
        _, page = self._server.ask("GET", "/metrics")
        samples = samples_of(str(page))
        return [
            sum(value for (found, _), value in samples.items() if found == name)
            for name in (self._RUNS, *self._COUNTED)
        ]
