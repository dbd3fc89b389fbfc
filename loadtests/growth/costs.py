"""What an operation costs: processor time of server and Postgres, time, statements, pages read."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from statistics import median
from time import perf_counter

import psycopg

from loadtests.measuring.database import MeasuredDatabase, PostgresProcessor
from loadtests.measuring.figures import significant
from loadtests.measuring.servers import ServerProcess

#: Pages are of this size.
_PAGE_BYTES = 8192

_PAGES = "SELECT blks_read + blks_hit FROM pg_stat_database WHERE datname = current_database()"


@dataclass(frozen=True)
class Cost:
    """Of one operation, the mean of some; ``p50_ms`` is their median."""

    server_ms: float
    postgres_ms: float
    p50_ms: float
    pages: float
    answer_bytes: float

    @property
    def cpu_ms(self) -> float:
        return self.server_ms + self.postgres_ms

    def plain(self) -> dict[str, float]:
        found = {
            "cpu_ms": self.cpu_ms,
            "server_ms": self.server_ms,
            "postgres_ms": self.postgres_ms,
            "p50_ms": self.p50_ms,
            "page_kb": self.pages * _PAGE_BYTES / 1024,
            "answer_kb": self.answer_bytes / 1024,
        }
        return {name: significant(value) for name, value in found.items()}


class Costs:
    """Asks a server, one request at a time, and reads the meters around it."""

    def __init__(self, server: ServerProcess, database: MeasuredDatabase) -> None:
        self._server = server
        self._postgres = PostgresProcessor(database)
        self._url = database.url

    def of(
        self, count: int, ask: Callable[[int], tuple[str, str, bytes]], *, status: int = 200
    ) -> Cost:
        """The cost of ``count`` requests.

        :param ask: method, path and body of the request with this number.
        :raises RuntimeError: a request was refused.
        """
        taken: list[float] = []
        received = 0
        with (
            closing(HTTPConnection("127.0.0.1", self._server.port, timeout=120)) as connection,
            psycopg.connect(self._url, autocommit=True) as meter,
        ):
            pages = _pages(meter)
            server, postgres = self._server.cpu_seconds(), self._postgres.seconds() or 0.0
            for number in range(count):
                method, path, body = ask(number)
                started = perf_counter()
                connection.request(method, path, body or None, {"Content-Type": "application/json"})
                response = connection.getresponse()
                answer = response.read()
                taken.append(perf_counter() - started)
                received += len(answer)
                if response.status != status or b"event: error" in answer[-2000:]:
                    raise RuntimeError(f"{method} {path}: {response.status} {answer[-500:]!r}")
            server = self._server.cpu_seconds() - server
            postgres = (self._postgres.seconds() or 0.0) - postgres
            pages = _pages(meter) - pages
        return Cost(
            server_ms=server / count * 1000,
            postgres_ms=postgres / count * 1000,
            p50_ms=median(taken) * 1000,
            pages=pages / count,
            answer_bytes=received / count,
        )


def _pages(meter: psycopg.Connection) -> int:
    # Postgres 15 and later write what a session has counted when it is idle for a second.
    row = meter.execute(_PAGES).fetchone()
    assert row is not None
    return int(row[0])


def mean_cost(costs: list[Cost]) -> dict[str, float]:
    """The median of each figure over rounds."""
    rounds = [cost.plain() for cost in costs]
    return {name: significant(median(one[name] for one in rounds)) for name in rounds[0]}
