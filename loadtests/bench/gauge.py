"""What a stretch of work cost the server: processor time, transactions, bytes of its log.

Processor time is read from /proc, of the postmaster and all its children: backends, writers, and
those that have ended, whose time their parent keeps. It is in nanoseconds where the kernel counts
so, else in ticks; None where the server is on another machine or the system has no /proc.

Transactions are those that Postgres itself counted for the database. A backend reports its count at
most once a second while it is used, and for certain when it ends; so they are counted from the
opening of a contender's connections to their end, and what opening alone counts is taken off.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psycopg
from psycopg import AsyncConnection

from loadtests.bench.server import BenchDatabase

_TABLES = "checkpoints, checkpoint_blobs, checkpoint_writes"
_PROC = Path("/proc")
#: Fields of /proc/<pid>/stat after the command's name: parent, and the four times in ticks.
_PARENT, _OWN_TIMES, _CHILDREN_TIMES = 1, slice(11, 13), slice(13, 15)
_GONE_SECONDS = 10.0


@dataclass(frozen=True)
class Reading:
    """``cpu_seconds`` since the server began; ``wal_bytes`` its position in its log."""

    cpu_seconds: float | None
    wal_bytes: int

    def __sub__(self, earlier: "Reading") -> "Reading":
        known = self.cpu_seconds is not None and earlier.cpu_seconds is not None
        cpu = (self.cpu_seconds or 0) - (earlier.cpu_seconds or 0) if known else None
        return Reading(cpu, self.wal_bytes - earlier.wal_bytes)


class Gauge:
    """Reads the server over a connection to another database, so that it does not count itself."""

    def __init__(self, database: BenchDatabase) -> None:
        self._database = database
        self._connection: AsyncConnection | None = None
        self._postmaster: int | None = None

    async def __aenter__(self) -> Self:
        self._connection = await AsyncConnection.connect(self._database.admin_url, autocommit=True)
        host, _ = self._database.address
        if host.startswith("/") or host in {"127.0.0.1", "::1", "localhost"}:
            self._postmaster = postmaster_of(int(await self._ask("SELECT pg_backend_pid()")))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._connection is not None
        await self._connection.close()

    async def empty(self) -> None:
        """The same start for everybody: no rows, and dirty pages written out."""
        async with await AsyncConnection.connect(self._database.url, autocommit=True) as connection:
            await connection.execute(f"TRUNCATE {_TABLES}")
            try:
                await connection.execute("CHECKPOINT")
            except psycopg.errors.InsufficientPrivilege:
                return  # Not our server; it costs all contenders the same.

    async def read(self) -> Reading:
        position = await self._ask("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
        return Reading(cpu_seconds(self._postmaster), int(position))

    async def transactions(self) -> int:
        """Committed in the database so far; waits until no backend is left that has not told."""
        async with asyncio.timeout(_GONE_SECONDS):
            while await self._ask(  # noqa: ASYNC110 - polled: they end in another process
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = %s AND backend_type = 'client backend'"
            ):
                await asyncio.sleep(0.01)
        return int(await self._ask("SELECT xact_commit FROM pg_stat_database WHERE datname = %s"))

    async def _ask(self, question: str) -> int:
        assert self._connection is not None
        parameters = [self._database.name] if "%s" in question else None
        cursor = await self._connection.execute(question.encode(), parameters)
        row = await cursor.fetchone()
        assert row is not None
        value: int = row[0]
        return value


def postmaster_of(backend: int) -> int | None:
    """The parent of a backend, if both are Postgres on this machine."""
    found = _stat(backend)
    if found is None or not _is_postgres(backend):
        return None
    parent = int(found[_PARENT])
    return parent if _is_postgres(parent) else None


def _is_postgres(pid: int) -> bool:
    try:
        return (_PROC / str(pid) / "comm").read_text().startswith("postgres")
    except OSError:
        return False


def cpu_seconds(postmaster: int | None) -> float | None:
    """Of a process and its children, those that have ended too; None for none."""
    if postmaster is None:
        return None
    seconds = 0.0
    for entry in _PROC.iterdir():
        pid = int(entry.name) if entry.name.isdecimal() else 0
        found = _stat(pid)
        if found is None or postmaster not in (pid, int(found[_PARENT])):
            continue
        seconds += _on_cpu_seconds(pid, found)
        if pid == postmaster:
            seconds += _seconds(found[_CHILDREN_TIMES])
    return seconds


def _on_cpu_seconds(pid: int, stat: list[str]) -> float:
    """The same as the two times in ``stat``, and exact: its processes have one thread each."""
    try:
        text = (_PROC / str(pid) / "schedstat").read_text()
    except OSError:
        return _seconds(stat[_OWN_TIMES])
    return int(text.split()[0]) / 1e9


def _seconds(ticks: list[str]) -> float:
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str] | None:
    """The fields after the command's name, which may itself hold spaces and brackets."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()
