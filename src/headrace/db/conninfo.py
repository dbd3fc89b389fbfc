"""The database URL: read from the settings, without driver suffixes, logged without password."""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from headrace.database_settings import DatabaseSettings
from headrace.errors import StartupRefusal

#: SQLAlchemy writes ``postgresql+psycopg://``; libpq knows only the scheme without the driver.
_DRIVER_SUFFIX = re.compile(r"^(postgres(?:ql)?)\+[a-z0-9_]+://", re.IGNORECASE)

#: libpq's TCP settings: detect a silent peer after about a minute. The default is two hours.
_KEEPALIVE: dict[str, int] = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def connection_string(settings: DatabaseSettings, *, migrations: bool = False) -> str:
    """The libpq connection string. Parameters of the URL override headrace's defaults.

    :raises StartupRefusal: HR303 when there is no URL, HR304 when libpq cannot read it.
    """
    secret = (migrations and settings.migration_url) or settings.url
    if secret is None:
        raise StartupRefusal(
            "HR303",
            where="DATABASE_URL",
            what="no database is configured",
            remedy="Set it to postgresql://user:password@host/database, or start `headrace dev`,"
            " which brings its own Postgres.",
        )
    try:
        given = conninfo_to_dict(_DRIVER_SUFFIX.sub(r"\1://", secret.get_secret_value()))
    except ProgrammingError as error:
        raise StartupRefusal(
            "HR304",
            where=settings.url_source or "DATABASE_URL",
            what=f"libpq cannot read it ({_without_url(error)})",
            remedy="Use the form postgresql://user:password@host:5432/database and"
            " percent-encode special characters in the password.",
        ) from None
    if _is_misread(secret.get_secret_value(), given):
        raise StartupRefusal(
            "HR304",
            where=settings.url_source or "DATABASE_URL",
            what="it has an @ where no user and password end",
            remedy="Percent-encode special characters in the password: %40 for @, %2F for /.",
        ) from None
    defaults: dict[str, str | int] = {
        "connect_timeout": settings.connect_timeout_seconds,
        "application_name": settings.application_name,
        **_KEEPALIVE,
    }
    if "," in f"{given.get('host') or given.get('hostaddr') or ''}":
        # With several hosts, take the primary. Without this, libpq takes the first that answers.
        defaults["target_session_attrs"] = "read-write"
    return make_conninfo("", **{**defaults, **given})


def passwords_in(url: str) -> Iterator[str]:
    """The passwords in a database URL, as they are written and as they are meant. Also those of a
    URL that libpq cannot read.
    """
    _, _, rest = url.partition("://")
    written = rest.rpartition("@")[0].partition(":")[2]
    try:
        parts = conninfo_to_dict(_DRIVER_SUFFIX.sub(r"\1://", url))
    except ProgrammingError:
        yield from (written, unquote(written))
        return
    password = str(parts.get("password", ""))
    yield from (password, str(parts.get("sslpassword", "")))
    if unquote(written) == password:
        yield written


def _is_misread(url: str, given: Mapping[str, object]) -> bool:
    """Whether libpq reads a part of the password as the address.

    libpq ends the password at the first ``@`` or ``/``. Messages would show the rest as the host.
    """
    if "://" not in url:
        return False
    if any("@" in str(given.get(name) or "") for name in ("host", "hostaddr", "port")):
        return True
    # The name of a database may have an @, percent-encoded.
    ends_user = 1 if "user" in given else 0
    return "@" in str(given.get("dbname") or "") and url.partition("?")[0].count("@") > ends_user


def describe(conninfo: str) -> str:
    """``host:port/database`` for logs and messages, without secrets."""
    parts = conninfo_to_dict(conninfo)
    host = parts.get("host") or parts.get("hostaddr") or "local socket"
    return f"{host}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"


def _without_url(error: Exception) -> str:
    # libpq quotes the URL, which may contain the password. The password may contain a quote.
    return re.sub(r'".*"', '"..."', str(error).strip(), flags=re.DOTALL)
