"""The Postgres of a measurement: one of its own with its durability on, or a given one.

Either way the measurement works in databases made for it, and drops them again.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier
from pydantic import SecretStr

from headrace.database_settings import DatabaseSettings
from headrace.db.migrate import upgrade
from headrace.embedded.launcher import EmbeddedPostgres
from loadtests.measuring.processors import cpu_seconds, postmaster_of

#: What makes a commit durable; said in the results, since without it nothing is worth comparing.
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method")


@dataclass(frozen=True)
class MeasuredDatabase:
    """``admin_url`` is another database of the same server: what is asked there counts nowhere."""

    name: str
    url: str
    admin_url: str

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; a host with a slash is the folder of a unix socket."""
        parts = conninfo_to_dict(self.url)
        return str(parts.get("host") or "127.0.0.1"), int(parts.get("port") or 5432)

    def through(self, host: str, port: int) -> str:
        """The URL of the same database behind a proxy that reads the protocol, thus unencrypted."""
        return make_conninfo(
            self.url, host=host, port=port, sslmode="disable", gssencmode="disable"
        )

    def set_commit_delay(self, microseconds: int) -> None:
        """For sessions that begin from now on; 0 takes it back.

        ``commit_siblings`` 0 makes it a pause of every commit, taken once for all that commit
        together: what a slower disk does. Only a superuser may.
        """
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            for name, value in (("commit_delay", microseconds), ("commit_siblings", 0)):
                connection.execute(
                    SQL(
                        "ALTER DATABASE {} SET {} = {}"
                        if microseconds
                        else "ALTER DATABASE {} RESET {}"
                    ).format(Identifier(self.name), Identifier(name), value)
                )

    def facts(self) -> dict[str, str]:
        """Version and durability of the server."""
        with psycopg.connect(self.url) as connection:
            rows = connection.execute(
                "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)",
                [["server_version", "autovacuum", *DURABILITY]],
            ).fetchall()
        return dict(rows)

    def analyze(self) -> None:
        """Statistics of all tables: plans then depend on them, not on how old the tables are."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("ANALYZE")

    def statements(self) -> int | None:
        """Statements executed in this database so far; None where pg_stat_statements is not loaded.

        Transaction control counts too, as Postgres counts it.
        """
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            try:
                connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
                row = connection.execute(
                    "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements"
                    " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = %s)",
                    [self.name],
                ).fetchone()
            except psycopg.Error:
                return None
        assert row is not None
        return int(row[0])

    def postmaster(self) -> int | None:
        """The process whose children serve this database; None where it is on another machine."""
        host, _ = self.address
        if not host.startswith("/") and host not in {"127.0.0.1", "::1", "localhost"}:
            return None
        with psycopg.connect(self.admin_url) as connection:
            return postmaster_of(connection.info.backend_pid)


class PostgresProcessor:
    """Processor time of the whole server of a database, all its backends and writers."""

    def __init__(self, database: MeasuredDatabase) -> None:
        self._postmaster = database.postmaster()

    def seconds(self) -> float | None:
        """Since the server began; None where it is on another machine or has no /proc."""
        return cpu_seconds(self._postmaster)


@contextmanager
def postgres(given_url: str | None, *, durable: bool = True) -> Iterator[str]:
    """The URL of a server on which databases may be made.

    :param given_url: of a database on a server that is there; None: an embedded one is started.
    :param durable: fsync of the embedded one.
    """
    if given_url:
        yield given_url
        return
    with tempfile.TemporaryDirectory(
        prefix="headrace-measure-", ignore_cleanup_errors=True
    ) as name:
        # A server that gives up root must still come in.
        Path(name).chmod(0o755)
        with EmbeddedPostgres(Path(name) / "pg", durable=durable) as server:
            yield server.dsn()


@contextmanager
def fresh_database(admin_url: str, *, migrated: bool = True) -> Iterator[MeasuredDatabase]:
    """A database of its own on that server; dropped afterwards, open connections or not.

    :param migrated: with headrace's tables; a peer makes its own.
    """
    name = f"headrace_measure_{uuid4().hex[:8]}"
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    url = make_conninfo(admin_url, dbname=name)
    try:
        if migrated:
            upgrade(DatabaseSettings(url=SecretStr(url)))
        yield MeasuredDatabase(name, url, admin_url)
    finally:
        with psycopg.connect(admin_url, autocommit=True) as connection:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@contextmanager
def measured_database(given_url: str | None, *, durable: bool = True) -> Iterator[MeasuredDatabase]:
    """A fresh, migrated database on the given server, or on an embedded one."""
    with postgres(given_url, durable=durable) as admin_url, fresh_database(admin_url) as database:
        yield database
