"""The Postgres of a bench: one of its own with its durability on, or the one DATABASE_URL names.

Either way the bench works in a database made for it, and drops it again.
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

from headrace.db.migrate import upgrade
from headrace.embedded.launcher import EmbeddedPostgres
from headrace.setting_groups import DatabaseSettings

#: What makes a commit durable; said in the results, since without it nothing is worth comparing.
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method")


@dataclass(frozen=True)
class BenchDatabase:
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
                [["server_version", *DURABILITY]],
            ).fetchall()
        return dict(rows)


@contextmanager
def bench_database(given_url: str | None) -> Iterator[BenchDatabase]:
    """A fresh, migrated database."""
    if given_url:
        with _database_on(given_url) as database:
            yield database
        return
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", ignore_cleanup_errors=True) as name:
        # A server that gives up root must still come in.
        Path(name).chmod(0o755)
        with EmbeddedPostgres(Path(name) / "pg") as server, _database_on(server.dsn()) as database:
            yield database


@contextmanager
def _database_on(admin_url: str) -> Iterator[BenchDatabase]:
    name = f"headrace_bench_{uuid4().hex[:8]}"
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    url = make_conninfo(admin_url, dbname=name)
    try:
        upgrade(DatabaseSettings(url=SecretStr(url)))
        yield BenchDatabase(name, url, admin_url)
    finally:
        with psycopg.connect(admin_url, autocommit=True) as connection:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
