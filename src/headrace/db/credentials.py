"""The credentials with which this process logs in to the database, and when they expire.

The connection string, or a PG* variable, names the files of certificates. Postgres knows when the
password expires.
"""

from pathlib import Path

import structlog
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from headrace.db.certificates import expires_at
from headrace.db.pool import Connection
from headrace.db.statements import statement

_log = structlog.stdlib.get_logger("headrace.db")

#: The credential, and libpq's name of the parameter that has its file.
_FILES = {"client_certificate": "sslcert", "root_certificate": "sslrootcert"}
#: As a root certificate, it means those of the operating system.
_SYSTEM = "system"

_PASSWORD = statement("""
SELECT extract(epoch FROM rolvaliduntil - clock_timestamp())::float8 FROM pg_roles
WHERE rolname = session_user AND isfinite(rolvaliduntil)
""")


async def password_expires_seconds(connection: Connection) -> float | None:
    """Seconds until the password of the role is refused; None: it has no such time."""
    row = await (await connection.execute(_PASSWORD, prepare=False)).fetchone()
    return None if row is None else float(row[0])


class Credentials:
    """The certificates of one connection string."""

    def __init__(self, conninfo: str) -> None:
        given = conninfo_to_dict(conninfo)
        # libpq reads the PG* variables.
        defaults = {
            option.keyword.decode(): option.val.decode()
            for option in Conninfo.get_defaults()
            if option.val
        }
        self._files = {
            credential: Path(str(path))
            for credential, name in _FILES.items()
            if (path := given.get(name) or defaults.get(name)) and path != _SYSTEM
        }
        self._logged: set[str] = set()

    def certificates(self) -> dict[str, float]:
        """By credential: when its file expires, in seconds since the epoch.

        A file that cannot be read is left out, and logged once. It blocks: it reads files.
        """
        found: dict[str, float] = {}
        for credential, path in self._files.items():
            try:
                expires = expires_at(path)
            except (OSError, ValueError) as error:
                if credential not in self._logged:
                    self._logged.add(credential)
                    _log.warning("certificate_not_read", credential=credential, error=str(error))
                continue
            if expires is not None:
                found[credential] = expires
        return found
