"""What a server and its database hold at a moment: memory, files, connections, rows and bytes."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from loadtests.common.server import NotTold, snapshot
from loadtests.measuring.processors import group_members, resident_bytes
from loadtests.measuring.servers import ServerProcess

_MIB = 1024 * 1024

_TABLES = """
SELECT relname, n_live_tup, n_dead_tup, pg_total_relation_size(relid),
    vacuum_count + autovacuum_count
FROM pg_stat_user_tables
"""
_CONNECTIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@dataclass(frozen=True)
class Table:
    """By Postgres's own statistics."""

    live: int
    dead: int
    bytes: int
    vacuums: int


@dataclass(frozen=True)
class Sample:
    """``values`` has every figure that is judged, by name; see :func:`names_of`."""

    seconds: float
    #: That the server has answered so far.
    requests: float
    values: dict[str, float]
    tables: dict[str, Table] = field(default_factory=dict)


class Sampler:
    """Takes samples of one server.

    :param runtime_dir: the server's directory of metric files and status slots.
    """

    def __init__(self, server: ServerProcess, database_url: str, runtime_dir: Path) -> None:
        self._server = server
        self._database_url = database_url
        self._runtime_dir = runtime_dir

    def take(self, seconds: float) -> Sample | None:
        """None if the server was too busy to tell how many requests it has answered."""
        try:
            told = snapshot(self._server.url, {})
        except NotTold:
            return None
        requests = sum(
            value
            for (name, _), value in told.samples.items()
            if name == "headrace_http_requests_total"
        )
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            tables = {
                str(name): Table(live, dead, size, vacuums)
                for name, live, dead, size, vacuums in connection.execute(_TABLES).fetchall()
            }
            (connections,) = connection.execute(_CONNECTIONS).fetchone() or (0,)
        values = dict(self._of_processes())
        values |= {
            "connections": connections,
            "tables MiB": sum(one.bytes for one in tables.values()) / _MIB,
            "dead rows": sum(one.dead for one in tables.values()),
            "live rows": sum(one.live for one in tables.values()),
            "metric files KiB": directory_bytes(self._runtime_dir) / 1024,
        }
        return Sample(seconds, requests, values, tables)

    def _of_processes(self) -> Iterator[tuple[str, float]]:
        for number, pid in enumerate(sorted(group_members(self._server.group))):
            name = f"process {number}" if number else "master"
            yield f"RSS MiB, {name}", resident_bytes([pid]) / _MIB
            with suppress(OSError):
                yield f"files, {name}", len(os.listdir(f"/proc/{pid}/fd"))


def directory_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        # Files come and go.
        with suppress(OSError):
            total += path.stat().st_size
    return total


def names_of(samples: Sequence[Sample]) -> list[str]:
    """Of the figures that every sample has: a process that came later is not among them."""
    common = set.intersection(*(set(one.values) for one in samples)) if samples else set()
    return [name for name in samples[0].values if name in common] if samples else []
