"""A private Postgres for development and tests, owned by the process that started it.

It listens on a unix socket in a directory of its own and on no TCP port. Nothing can collide with
it, and no other user can reach it; so trust authentication is safe.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote

import psycopg

from headrace.embedded import data_directory
from headrace.embedded.account import Account, reachable_binaries
from headrace.embedded.binaries import Binaries, find_binaries
from headrace.embedded.postmaster import Postmaster, read_postmaster
from headrace.errors import StartupRefusal

#: It only names the socket file: the server listens on no TCP port.
_PORT = 5432

#: The kernel takes 107 bytes for the whole socket path; macOS 103.
_SOCKET_PARENT_LIMIT = 70

_SOCKET_PREFIX = "hr-"

#: Recovery after a crash replays the log first, which may take a while.
_START_TIMEOUT_SECONDS = 60.0

_ADOPT_TIMEOUT_SECONDS = 10.0

#: Fast shutdown first, then signals that leave recovery to the next start.
_STOP_SIGNALS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))

_POLL_SECONDS = 0.02

_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """One Postgres server on ``data_dir``, which is created if it is missing.

    If a killed process left a server running on this data, ``start`` adopts it, and ``stop`` stops
    it. ``durable=False`` trades safety for speed: for tests only. After ``start``, ``notes`` says
    where files are, if that is an unusual place.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        durable: bool = True,
        bindir: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        # Resolve the links above: they may begin where only root can go. Keep the last part: it may
        # be our own link.
        self.data_dir = data_dir.parent.resolve() / data_dir.name
        self.notes: list[str] = []
        self.adopted = False
        self._durable = durable
        self._bindir = bindir
        self._options = dict(options or {})
        self._binaries: Binaries | None = None
        self._place = self.data_dir
        self._lock: IO[Any] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._postmaster: Postmaster | None = None

    @property
    def version(self) -> str:
        """``18.4``."""
        if self._binaries is None:
            self._binaries = find_binaries(self._bindir)
        return self._binaries.version

    @property
    def major(self) -> int:
        """``18``."""
        return int(self.version.partition(".")[0])

    @property
    def log_file(self) -> Path:
        """The server's log, beside the data."""
        return self.data_dir.with_name(f"{self.data_dir.name}.log")

    def dsn(self, database: str = "postgres") -> str:
        """The libpq URL of ``database``; only after ``start``."""
        if self._postmaster is None:
            raise RuntimeError("the embedded Postgres is not running")
        return _url(self._postmaster, database)

    def start(self) -> None:
        """Return when the server answers. Does nothing when it was started before.

        :raises StartupRefusal: HR321 data of another major version, HR322 no binaries, HR323 it did
            not start, HR324 the data directory cannot be used, HR325 another process uses it.
        """
        if self._lock is not None:
            return
        binaries = find_binaries(self._bindir)
        self._lock = data_directory.lock(self.data_dir)
        try:
            self._start(binaries)
        except OSError as error:
            self.stop()
            raise StartupRefusal(
                "HR323",
                where=f"embedded Postgres in {self.data_dir}",
                what=f"it could not be set up ({error})",
                remedy="Correct that, or set DATABASE_URL to a Postgres of your own.",
            ) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Shut the server down and wait for it; nothing happens when it does not run."""
        try:
            for number, seconds in _STOP_SIGNALS:
                if not self._running():
                    break
                self._signal(number)
                _wait_until(lambda: not self._running(), seconds)
        finally:
            if self._postmaster is not None and not self._running():
                _remove_socket_directory(self._postmaster.socket_directory)
            self._process = None
            self._postmaster = None
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _start(self, binaries: Binaries) -> None:
        data_directory.check_major(self.data_dir, binaries)
        account = Account.choose()
        self._place, placed = data_directory.settle(account, self.data_dir)
        self._binaries, copied = reachable_binaries(account, binaries)
        self.notes = [note for note in (placed, copied) if note]
        there = data_directory.check_major(self._place, self._binaries)
        if there and (found := self._find_running()) is not None:
            self._postmaster = found
            self.adopted = True
            return
        self.adopted = False
        if not there:
            data_directory.create(account, self._binaries, self._place, durable=self._durable)
        self._launch(account, self._binaries)

    def _find_running(self) -> Postmaster | None:
        """The live server of this data directory, once it answers; None when there is none."""
        left = read_postmaster(self._place)
        if left is None:
            return None

        def decided() -> bool:
            gone = read_postmaster(self._place) != left or not left.alive
            return gone or not left.socket.exists() or _answers(left, self._place)

        if _wait_until(decided, _ADOPT_TIMEOUT_SECONDS) and _answers(left, self._place):
            return left
        if not left.alive:
            _remove_socket_directory(left.socket_directory)
        return None

    def _launch(self, account: Account, binaries: Binaries) -> None:
        directory = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir=_socket_parent()))
        account.give(directory)
        options = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{directory}"',
            "port": str(_PORT),
            "max_connections": "100",
            **({} if self._durable else _NOT_DURABLE),
            **self._options,
        }
        command: list[str | Path] = [binaries.postgres, "-D", self._place]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with self.log_file.open("ab") as log:
            start_of_log = log.tell()
            self._process = account.popen(command, log)
        self._postmaster = Postmaster(self._process.pid, int(options["port"]), directory)
        if not _wait_until(self._ready_or_ended, _START_TIMEOUT_SECONDS) or not self._running():
            with self.log_file.open("rb") as log:
                log.seek(start_of_log)
                lines = log.read().decode(errors="replace").strip().splitlines()
            raise StartupRefusal(
                "HR323",
                where=f"embedded Postgres in {self.data_dir}",
                what=f"it did not start: {' | '.join(lines[-4:]) or 'it printed nothing'}",
                remedy=f"Correct that (the whole log is {self.log_file}), or set DATABASE_URL to a"
                " Postgres of your own.",
            )

    def _ready_or_ended(self) -> bool:
        assert self._postmaster is not None
        return not self._running() or _answers(self._postmaster, self._place)

    def _running(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        # Not our child: its id stays until another process reaps it. So also check the file that
        # Postgres removes at its end.
        left = self._postmaster
        return left is not None and left.alive and read_postmaster(self._place) == left

    def _signal(self, number: signal.Signals) -> None:
        assert self._postmaster is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._postmaster.pid, number)


def _url(postmaster: Postmaster, database: str) -> str:
    host = quote(str(postmaster.socket_directory), safe="")
    return f"postgresql://postgres@/{quote(database, safe='')}?host={host}&port={postmaster.port}"


def _answers(postmaster: Postmaster, data_dir: Path) -> bool:
    """Whether the server behind the socket accepts connections and really serves ``data_dir``."""
    try:
        with psycopg.connect(_url(postmaster, "postgres"), connect_timeout=5) as connection:
            row = connection.execute("SELECT current_setting('data_directory')").fetchone()
    except psycopg.Error:
        return False
    return row is not None and Path(row[0]).resolve() == data_dir.resolve()


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until ``condition`` holds; False when it does not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _socket_parent() -> str:
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= _SOCKET_PARENT_LIMIT else "/tmp"  # noqa: S108


def _remove_socket_directory(directory: Path) -> None:
    """Remove the files of a server, but only if the directory is one of ours."""
    if not directory.name.startswith(_SOCKET_PREFIX):
        return
    for leftover in directory.glob(".s.PGSQL.*"):
        leftover.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        directory.rmdir()
