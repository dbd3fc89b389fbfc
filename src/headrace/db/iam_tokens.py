"""Logins by the IAM of a cloud: the password is a token that the cloud's own library makes.

The libraries find the identity of this process themselves (a role of the pod or of the machine, a
file, variables), keep it up to date, and are extras of headrace. Each new connection asks for a
token: RDS's is signed here and now; of the others the library keeps a token until it is about to
expire.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

from psycopg.conninfo import conninfo_to_dict

from headrace.db.conninfo import describe
from headrace.db.passwords import PasswordNotRead
from headrace.errors import StartupRefusal
from headrace.observability.masking import mask_text
from headrace.settings import environment

IamLogin = Literal["rds", "cloud_sql", "entra"]

#: Those with which libpq checks the certificate of the server before it sends the token.
_CHECKED = ("verify-ca", "verify-full")
#: Addresses of this machine: a proxy of the cloud (Cloud SQL Auth Proxy) encrypts from there.
_LOCAL = ("localhost", "127.0.0.1", "::1")

_CLOUD_SQL_SCOPE = "https://www.googleapis.com/auth/sqlservice.login"
_ENTRA_SCOPE = "https://ossrdbms-aad.database.windows.net/.default"


class IamTokens:
    """Tokens as passwords. :class:`Passwords` calls it under a lock.

    :param make: a token. Its argument says that the one before was refused.
    """

    always_new = True

    def __init__(self, kind: IamLogin, make: Callable[[bool], str]) -> None:
        self.kind: str = kind
        self.setting = f"database.login={kind}"
        self._make = make

    def read(self, *, again: bool) -> str:
        """:raises PasswordNotRead: the library has made none. The message has no secret."""
        try:
            return self._make(again)
        except Exception as error:
            # Each library has its own errors, and those of its HTTP client.
            reason = mask_text(str(error).strip().partition("\n")[0][:300]) or type(error).__name__
            raise PasswordNotRead(f"no token of {self.kind} ({reason})") from error


def iam_tokens(kind: IamLogin, conninfo: str) -> IamTokens:
    """The tokens for the role and the server of ``conninfo``.

    It finds no credentials and calls nobody: that is done for the first connection.

    :raises StartupRefusal: HR341 the library is not installed, HR342 the token would be sent
        without a check of the server's certificate, or the URL lacks a part.
    """
    _refuse_unfit(kind, conninfo)
    make = {"rds": _rds, "cloud_sql": _cloud_sql, "entra": _entra}[kind]
    return IamTokens(kind, make(conninfo))


def _refuse_unfit(kind: IamLogin, conninfo: str) -> None:
    given = conninfo_to_dict(conninfo)
    host = str(given.get("host") or given.get("hostaddr") or "")
    if not given.get("user"):
        what, remedy = "it names no user", "Name the role that the cloud's identity logs in as."
    elif "," in host:
        what = "it names several hosts, and a token is for one"
        remedy = "Name the endpoint of the cluster: it follows the primary."
    elif kind == "rds" and (not host or host.startswith("/")):
        what = "it names no host, and a token of rds is made for one"
        remedy = "Name the endpoint of the instance or of the cluster."
    elif (
        host not in _LOCAL
        and host
        and not host.startswith("/")
        and given.get("sslmode") not in _CHECKED
    ):
        what = f"sslmode is {given.get('sslmode') or 'prefer'}, so anybody could take the token"
        remedy = "Add sslmode=verify-full, and sslrootcert with the CA of the cloud."
    else:
        return
    raise StartupRefusal("HR342", where=f"database {describe(conninfo)}", what=what, remedy=remedy)


def _library(name: str, kind: IamLogin) -> Any:
    """:raises StartupRefusal: HR341."""
    try:
        return import_module(name)
    except ImportError as error:
        raise StartupRefusal(
            "HR341",
            where=f"HEADRACE_DATABASE__LOGIN={kind}",
            what=f"{name.partition('.')[0]} cannot be imported ({error})",
            remedy=f"Install the extra: pip install 'headrace[{kind.replace('_', '-')}]'.",
        ) from error


def _rds(conninfo: str) -> Callable[[bool], str]:
    """A token is the signature of a request, valid for 15 minutes; it costs no call."""
    session = _library("botocore.session", "rds").get_session()
    given = conninfo_to_dict(conninfo)
    host, user = str(given["host"]), str(given["user"])
    port = int(given.get("port") or 5432)
    clients: list[Any] = []

    def make(_: bool) -> str:
        if not clients:
            # botocore itself reads only AWS_DEFAULT_REGION.
            named = environment().get("AWS_REGION") or session.get_config_variable("region")
            region = named or _region_in(host)
            if region is None:
                raise PasswordNotRead("no region: set AWS_REGION")
            clients.append(session.create_client("rds", region_name=region))
        return str(clients[0].generate_db_auth_token(host, port, user))

    return make


def _region_in(host: str) -> str | None:
    """``eu-west-1`` of ``name.id.eu-west-1.rds.amazonaws.com``."""
    before, service, _ = host.partition(".rds.amazonaws.")
    return before.rpartition(".")[2] or None if service else None


def _cloud_sql(_: str) -> Callable[[bool], str]:
    """A token is valid for an hour; google-auth says when it must be made anew."""
    auth = _library("google.auth", "cloud_sql")
    transport = _library("google.auth.transport.requests", "cloud_sql")
    found: list[Any] = []

    def make(again: bool) -> str:
        if not found:
            found.append(auth.default(scopes=[_CLOUD_SQL_SCOPE])[0])
        credentials = found[0]
        if again or not credentials.valid:
            credentials.refresh(transport.Request())
        return str(credentials.token)

    return make


def _entra(_: str) -> Callable[[bool], str]:
    """A token is valid for about an hour; azure-identity keeps it until shortly before."""
    identity = _library("azure.identity", "entra")
    found: list[Any] = []

    def make(again: bool) -> str:
        if not found or again:
            # A refused token: a new object has no token in memory.
            found[:] = [identity.DefaultAzureCredential()]
        return str(found[0].get_token(_ENTRA_SCOPE).token)

    return make
