"""A durable primary and a streaming standby, which may crash, restart and take over."""

import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from headrace.db.migrate import upgrade
from headrace.embedded.account import Account, reachable_binaries
from headrace.embedded.binaries import find_binaries
from headrace.embedded.launcher import EmbeddedPostgres
from headrace.embedded.postmaster import read_postmaster
from tests.support.database import database_settings
from tests.support.processes import free_port
from tests.support.roles import SERVER_ROLE, let_server_in
from tests.support.waiting import wait_until

_STANDBY = "standby"
#: So far behind is an asynchronous standby that takes over.
_LAG_SECONDS = 0.5
#: Alembic keeps what it works on in its module.
_UPGRADING = threading.Lock()


class Server:
    """One Postgres with a TCP address of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "max_connections": "200",
            "wal_sender_timeout": "5s",
            "track_commit_timestamp": "on",  # tells which of two writes came first
        }
        self.postgres = EmbeddedPostgres(folder / "pg", options=options)

    @property
    def server_url(self) -> str:
        """For pods: the role that reads and changes rows."""
        return make_conninfo(self.url, user=SERVER_ROLE)

    def start(self) -> None:
        self.postgres.start()

    def migrate(self) -> None:
        """Make the tables, and let pods in."""
        with _UPGRADING:
            upgrade(database_settings(self.url))
        let_server_in(self.url)

    def crash(self) -> None:
        """``pg_ctl stop -m immediate``: nobody is waited for, and the next start recovers."""
        left = read_postmaster(self.postgres.data_dir)
        assert left is not None
        os.kill(left.pid, signal.SIGQUIT)
        self.postgres.stop()

    def destroy(self) -> None:
        self.postgres.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    def value(self, query: str) -> object:
        with psycopg.connect(self.url, autocommit=True) as connection:
            row = connection.execute(query).fetchone()
        return None if row is None else row[0]

    def stand_alone(self) -> None:
        """Forget the standby that the settings name, before the first write as a primary."""
        settings = self.postgres.data_dir / "postgresql.auto.conf"
        kept = [
            line
            for line in settings.read_text().splitlines()
            if not line.startswith("synchronous_standby_names")
        ]
        settings.write_text("\n".join(kept) + "\n")
        self.value("SELECT pg_reload_conf()")
        wait_until(lambda: self.value("SHOW synchronous_standby_names") == "")


class Pair:
    """A primary and its standby, or alone; ``synchronous``: a commit is acknowledged when both have
    it."""

    def __init__(self, folder: Path, *, synchronous: bool = True, alone: bool = False) -> None:
        self._folder = folder
        self._alone = alone
        self._synchronous = synchronous
        self._number = 0
        self.primary = self._new()
        self.standby: Server | None = None

    @property
    def url(self) -> str:
        return self.primary.url

    @property
    def server_url(self) -> str:
        return self.primary.server_url

    def start(self) -> None:
        self.primary.start()
        self.primary.migrate()
        if not self._alone:
            self.attach_standby()

    def stop(self) -> None:
        # The standby first: its primary would wait for it.
        for server in (self.standby, self.primary):
            if server is not None:
                server.destroy()

    def attach_standby(self) -> None:
        """Make a standby from the primary; return when it streams and counts."""
        standby = self._new()
        _base_backup(self.primary, standby)
        standby.start()
        self.standby = standby
        wait_until(lambda: self._streams("streaming"), seconds=30)
        if self._synchronous:
            self.primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{_STANDBY}'")
            self.primary.value("SELECT pg_reload_conf()")
            wait_until(lambda: self._counts("sync"), seconds=30)

    def restart(self, down_seconds: float) -> None:
        """The primary crashes and comes back at the same address."""
        self.primary.crash()
        time.sleep(down_seconds)
        self.primary.start()
        # What it committed before the standby was back is not safe yet, whatever it says.
        wait_until(lambda: self._streams("streaming"), seconds=30)

    def part(self) -> None:
        """Cut the standby off: it lacks what is committed from now on."""
        assert self.standby is not None
        self.standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self.standby.value("SELECT pg_reload_conf()")

    def fail_over(self) -> tuple[float, float]:
        """The primary dies for good; the standby takes over. ``url`` is another one then.

        :return: since when the standby got nothing any more, and when the primary died: seconds
            since the epoch. An asynchronous one is cut off before, so that it lacks something.
        """
        assert self.standby is not None
        parted_at = time.time()
        if not self._synchronous:
            self.part()
            time.sleep(_LAG_SECONDS)
        lost, self.primary, self.standby = self.primary, self.standby, None
        lost.crash()
        died_at = time.time()
        lost.destroy()
        if self._synchronous:
            # It came along with the backup; nobody would confirm.
            self.primary.stand_alone()
        assert self.primary.value("SELECT pg_promote(true, 30)") is True
        return parted_at, died_at

    def _new(self) -> Server:
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        folder.chmod(0o755)
        return Server(folder)

    def _streams(self, state: str) -> bool:
        return bool(
            self.primary.value(
                "SELECT count(*) FROM pg_stat_replication"
                f" WHERE application_name = '{_STANDBY}' AND state = '{state}'"
                " AND replay_lsn IS NOT NULL"
            )
        )

    def _counts(self, state: str) -> bool:
        return bool(
            self.primary.value(
                f"SELECT count(*) FROM pg_stat_replication WHERE sync_state = '{state}'"
            )
        )


def _base_backup(primary: Server, standby: Server) -> None:
    account = Account.choose()
    binaries, _ = reachable_binaries(account, find_binaries())
    place = standby.folder / "pg"
    account.give(standby.folder)
    source = f"host=127.0.0.1 port={primary.port} user=postgres application_name={_STANDBY}"
    command: list[str | Path] = [binaries.bindir / "pg_basebackup", "-D", place, "-d", source]
    command += ["-R", "-X", "stream", "-c", "fast", "--no-sync"]
    with account.popen(command, subprocess.PIPE) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said.decode()
