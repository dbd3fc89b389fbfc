"""The password of the database where it may change while a process serves: in a file, from a
command, or a token of a cloud (``iam_tokens``).

All connections of a process share one :class:`Passwords`. It may be used from several threads.
"""

import subprocess
import threading
from collections.abc import Collection
from pathlib import Path
from time import monotonic
from typing import Protocol

import psycopg
import structlog

from headrace.observability.masking import mask_always, mask_text

_log = structlog.stdlib.get_logger("headrace.db")

#: A longer file, or a longer output, is no password: a wrong path, or a whole JSON document.
_MAX_BYTES = 64 * 1024
#: After a refusal, a command is not executed again before its last output is so old: while a server
#: refuses each login, many connections are tried.
_LEAST_AGE_SECONDS = 5.0


class PasswordNotRead(psycopg.OperationalError):
    """The password could not be read, and none was accepted before. The message says why."""


class PasswordSource(Protocol):
    """Where the password is."""

    #: ``file``, ``command``, or the cloud of a token.
    kind: str
    #: The setting, for messages.
    setting: str
    #: Whether each password is a new one, so that a new one is no news.
    always_new: bool

    def read(self, *, again: bool) -> str:
        """The present password. It blocks.

        :param again: the password that was read last is refused: it must not come from memory.
        :raises PasswordNotRead: there is none.
        """


class PasswordFile:
    """A file with the password alone. A newline at its end does not belong to the password."""

    kind, setting, always_new = "file", "database.password_file", False

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, *, again: bool) -> str:
        try:
            with self._path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise PasswordNotRead(f"cannot read {self._path} ({error.strerror})") from None
        return _password(content, str(self._path))


class PasswordCommand:
    """A command that prints the password. Its output is used for ``cache_seconds``.

    Not safe for several threads: :class:`Passwords` calls it under a lock.
    """

    kind, setting, always_new = "command", "database.password_command", False

    def __init__(
        self, command: Collection[str], *, timeout_seconds: float, cache_seconds: float
    ) -> None:
        self._command = list(command)
        self._timeout_seconds = timeout_seconds
        self._cache_seconds = cache_seconds
        self._printed: str | None = None
        self._printed_at = float("-inf")

    def read(self, *, again: bool) -> str:
        age = monotonic() - self._printed_at
        usable = _LEAST_AGE_SECONDS if again else self._cache_seconds
        if self._printed is None or age >= usable:
            self._printed = self._execute()
            self._printed_at = monotonic()
        return self._printed

    def _execute(self) -> str:
        name = f"the command {self._command[0]}"
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own command
                self._command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self._timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PasswordNotRead(f"{name} took longer than {self._timeout_seconds:g} s") from None
        except (OSError, ValueError) as error:
            raise PasswordNotRead(f"cannot execute {name} ({error})") from None
        if done.returncode != 0:
            # What it has printed to its standard output may be the password.
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            raise PasswordNotRead(
                f"{name} failed with status {done.returncode}"
                f" ({mask_text(lines[-1][:300]) if lines else 'without a message'})"
            )
        return _password(done.stdout, name)


class Passwords:
    """The passwords to try, in order.

    The server may learn the new password before or after the source shows it. So a refused password
    is read again, and then the password that was accepted last is tried.
    """

    def __init__(self, source: PasswordSource) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._accepted: str | None = None
        #: Why the password was not read last; None after a success.
        self._fault: str | None = None
        self._falls_back = self._refused = False

    @property
    def kind(self) -> str:
        """``file``, ``command``, or the cloud of a token."""
        return self._source.kind

    @property
    def problem(self) -> str | None:
        """What an operator should know about the password, for public answers; None: all is well.

        The log has the reasons.
        """
        if self._fault is not None:
            return f"{self._source.setting} cannot be read"
        if self._refused:
            return f"the database has refused the last login by {self._source.setting}"
        if self._falls_back:
            return (
                f"the database refuses the password of {self._source.setting}; the one before it"
                " still works"
            )
        return None

    def first(self) -> str:
        """The password to try first. It blocks.

        :raises PasswordNotRead: there is none.
        """
        with self._lock:
            try:
                return self._read(again=False)
            except PasswordNotRead:
                if self._accepted is None:
                    raise
                return self._accepted

    def after(self, refused: Collection[str]) -> str | None:
        """Another password to try, after these were refused; None: there is no other. It blocks."""
        with self._lock:
            try:
                found: str | None = self._read(again=True)
            except PasswordNotRead:
                found = None
            return next(
                (one for one in (found, self._accepted) if one is not None and one not in refused),
                None,
            )

    def accept(self, password: str, refused: Collection[str]) -> None:
        """The server has accepted ``password`` after it had refused the others."""
        with self._lock:
            falls_back = bool(refused) and password == self._accepted
            if falls_back and not self._falls_back:
                _log.warning("password_refused", source=self.kind, used="the one before it")
            self._falls_back, self._refused = falls_back, False
            if password != self._accepted and self._accepted and not self._source.always_new:
                _log.info("password_changed", source=self.kind)
            self._accepted = password

    def give_up(self, reason: str) -> None:
        """No password was accepted.

        :param reason: what the server said.
        """
        with self._lock:
            if not self._refused:
                _log.warning("login_refused", source=self.kind, error=reason)
            self._refused = True

    def _read(self, *, again: bool) -> str:
        try:
            found = self._source.read(again=again)
        except PasswordNotRead as error:
            if str(error) != self._fault:
                _log.warning("password_not_read", source=self.kind, error=str(error))
            self._fault = str(error)
            raise
        self._fault = None
        mask_always([found], rotating=True)
        return found


def _password(content: bytes, source: str) -> str:
    """:raises PasswordNotRead: it is not one line of text."""
    if len(content) > _MAX_BYTES:
        raise PasswordNotRead(f"{source} has more than {_MAX_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise PasswordNotRead(f"{source} has no UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise PasswordNotRead(f"{source} is empty")
    if "\n" in text or "\0" in text:
        raise PasswordNotRead(f"{source} has more than one line")
    return text
