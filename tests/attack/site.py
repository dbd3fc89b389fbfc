"""What is attacked: ``headrace serve`` with two processes, on a database of its own."""

import os
import resource
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import psycopg

from headrace.embedded.launcher import EmbeddedPostgres
from tests.attack.address import ATTACKER_KEY, NEIGHBOUR_KEY, Address
from tests.support.live import LiveServer
from tests.support.waiting import wait_until

GRAPH = Path(__file__).parent / "graph" / "langgraph.json"

PROCESSES = 2

_DROP_SECONDS = 30

_SETTINGS = {
    "HEADRACE_CONFIG": str(GRAPH),
    "HEADRACE_API_KEYS": f"{ATTACKER_KEY},{NEIGHBOUR_KEY}",
    "HEADRACE_PROCESSES": str(PROCESSES),
    "HEADRACE_OBSERVABILITY__LOG_FORMAT": "json",
    # A row takes half a minute: whoever blocks an event loop is to be found within it.
    "HEADRACE_SERVER__PROCESS_TIMEOUT_SECONDS": "15",
    "HEADRACE_SERVER__DRAIN_DELAY_SECONDS": "0",
    "HEADRACE_SERVER__GRACE_SECONDS": "1",
}


class Target(LiveServer):
    """The server, whose processes are looked at from outside."""

    def __init__(self, folder: Path, database_url: str, **environment: str) -> None:
        super().__init__(folder, database_url, **{**_SETTINGS, **environment})
        self.open_health_port()

    def address(self) -> Address:
        return Address(self.port, self.health_port, self.database_url, str(self.log_file))

    def wait_ready(self, processes: int = PROCESSES) -> None:
        # Long, for a machine that has other work.
        wait_until(lambda: len(self.serving()) >= processes, seconds=150)
        wait_until(lambda: self.status("/readyz") == 200, seconds=30)

    def children(self) -> list[int]:
        """Its server processes, whether or not they answer."""
        assert self.master is not None
        with suppress(OSError):
            found = Path(f"/proc/{self.master.pid}/task/{self.master.pid}/children").read_text()
            return [int(pid) for pid in found.split()]
        return []

    def close(self) -> None:
        """End it with its grace; kill what does not end, and its processes with it."""
        if self.master is None:
            return
        children = self.children()
        with suppress(ProcessLookupError):
            self.master.terminate()
        with suppress(AssertionError):
            wait_until(lambda: self.master is None or self.master.poll() is not None, seconds=15)
        for pid in [self.master.pid, *children]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.master.wait()


def resident(pid: int) -> int:
    """Bytes of memory of a process; 0 when it is gone."""
    with suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    return 0


@contextmanager
def _database(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """:raises psycopg.Error: it could not be dropped in time: a backend ends for nobody."""
    name = f"t_{uuid4().hex[:12]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield postgres.dsn(name)
        finally:
            connection.execute(f"SET statement_timeout = {_DROP_SECONDS * 1000}")
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def target(
    postgres: EmbeddedPostgres, template: str, *, open_files: int | None, **environment: str
) -> Iterator[Target]:
    """A server that is ready, on a database of its own; both are gone afterwards.

    :param open_files: the hard limit of each process.
    """
    with (
        _database(postgres, template) as url,
        tempfile.TemporaryDirectory(prefix="headrace-attack-", ignore_cleanup_errors=True) as name,
    ):
        server = Target(Path(name), url, **environment)
        if open_files is not None:
            server.limit_open_files(open_files)
        server.start()
        try:
            server.wait_ready()
            yield server
        except AssertionError:
            print(server.log()[-4000:])
            raise
        finally:
            server.close()


def backends(database_url: str) -> list[str]:
    """What Postgres works on in this database, apart from who asks."""
    query = (
        "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND state = 'active' AND backend_type = 'client backend'"
    )
    with psycopg.connect(database_url, autocommit=True) as connection:
        return [str(row[0]) for row in connection.execute(query)]
