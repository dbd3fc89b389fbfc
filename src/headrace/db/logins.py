"""How a process logs in to the database: the connection string, and a password that may change.

Pool, lease, listener and commands all log in through :class:`Login`.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from headrace.database_settings import DatabaseSettings
from headrace.db.conninfo import connection_string
from headrace.db.faults import driver_reason
from headrace.db.iam_tokens import iam_tokens
from headrace.db.passwords import PasswordCommand, PasswordFile, Passwords
from headrace.thread_pool import in_a_thread

C = TypeVar("C")


class Login:
    """Opens connections. One object may serve several threads.

    :ivar conninfo: for libpq; without a password if ``passwords`` has it.
    """

    def __init__(self, conninfo: str, passwords: Passwords | None = None) -> None:
        self.passwords = passwords
        if passwords is not None:
            given = conninfo_to_dict(conninfo)
            given.pop("password", None)
            conninfo = make_conninfo("", **given)
        self.conninfo = conninfo

    @property
    def problem(self) -> str | None:
        """What an operator should know about the password; None: all is well."""
        return self.passwords.problem if self.passwords is not None else None

    async def connect(self, open_connection: Callable[..., Awaitable[C]], **options: Any) -> C:
        """A new connection.

        :param open_connection: psycopg's ``connect``.
        :raises psycopg.OperationalError: the server cannot be reached, or refuses the login.
        """
        if (passwords := self.passwords) is None:
            return await open_connection(self.conninfo, **options)
        password: str | None = await in_a_thread(passwords.first)
        refused: list[str] = []
        while True:
            assert password is not None
            try:
                connection = await open_connection(self.conninfo, **options, password=password)
            except psycopg.OperationalError as error:
                refused.append(password)
                if not _asked_for_password(error):
                    raise
                password = await in_a_thread(lambda: passwords.after(refused))
                if password is None:
                    passwords.give_up(driver_reason(error))
                    raise
            else:
                passwords.accept(password, refused)
                return connection

    def connect_blocking(self, **options: Any) -> psycopg.Connection[Any]:
        """As :meth:`connect`, for a thread without an event loop.

        :raises psycopg.OperationalError: the server cannot be reached, or refuses the login.
        """
        if (passwords := self.passwords) is None:
            return psycopg.connect(self.conninfo, **options)
        password: str | None = passwords.first()
        refused: list[str] = []
        while True:
            assert password is not None
            try:
                connection = psycopg.connect(self.conninfo, **options, password=password)
            except psycopg.OperationalError as error:
                refused.append(password)
                if not _asked_for_password(error):
                    raise
                password = passwords.after(refused)
                if password is None:
                    passwords.give_up(driver_reason(error))
                    raise
            else:
                passwords.accept(password, refused)
                return connection


class _LoggedIn:
    """The part of a connection that a login opens."""

    login: Login

    @classmethod
    async def connect(cls, _conninfo: str = "", **options: Any) -> Any:
        return await cls.login.connect(super().connect, **options)  # type: ignore[misc]


def logged_in(kind: type[AsyncConnection[Any]], login: Login) -> type[AsyncConnection[Any]]:
    """``kind`` with connections that ``login`` opens: for a pool, which knows only the class."""
    return type("LoggedInConnection", (_LoggedIn, kind), {"login": login})


def login_of(settings: DatabaseSettings, *, migrations: bool = False) -> Login:
    """The login of the settings. It connects to nothing, and reads no password.

    :raises StartupRefusal: HR303, HR304 the URL; HR341, HR342 a login by tokens.
    """
    conninfo = connection_string(settings, migrations=migrations)
    direct = migrations and settings.migration_url is not None
    if direct and conninfo_to_dict(conninfo).get("password"):
        return Login(conninfo)
    return Login(conninfo, _passwords_of(settings, conninfo))


def _passwords_of(settings: DatabaseSettings, conninfo: str) -> Passwords | None:
    """None if the password is a part of the URL, or the login needs none."""
    if settings.login != "password":
        return Passwords(iam_tokens(settings.login, conninfo))
    if settings.password_file is not None:
        return Passwords(PasswordFile(settings.password_file))
    if settings.password_command:
        return Passwords(
            PasswordCommand(
                settings.password_command,
                timeout_seconds=settings.password_command_timeout_seconds,
                cache_seconds=settings.password_cache_seconds,
            )
        )
    return None


def _asked_for_password(error: psycopg.Error) -> bool:
    """Whether the server asked for the password before it refused the login.

    A refused login has no SQLSTATE, and Postgres may translate its message. If the URL has several
    hosts, the error is that of the last one, which may be away.
    """
    if "\nMultiple connection attempts failed." in str(error):
        return True
    return error.pgconn is not None and bool(error.pgconn.used_password)
