"""A Postgres that asks for TLS: the embedded one is built without, so this is the system's."""

import os
import shutil
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from headrace.embedded.launcher import EmbeddedPostgres
from tests.support.certificates import Authority, Certificate
from tests.support.processes import free_port
from tests.support.waiting import wait_until

#: ``anyone`` needs no client certificate, ``certified`` needs one with its name.
_RULES = """
local all all trust
hostssl all certified 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 trust
"""


def system_binaries() -> Path:
    """The programs of a Postgres that can do TLS; without one, the test is skipped."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if initdb := shutil.which("initdb"):
        found.append(Path(initdb).resolve().parent)
    for folder in found:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    reason = "no Postgres of the system (Debian: postgresql), and the embedded one has no TLS"
    # CI has what the registries have, and no more.
    pytest.skip(reason)


class TlsPostgres:
    """A server with roles ``anyone`` and ``certified``, and a CA that signs for both sides."""

    def __init__(self, server: EmbeddedPostgres, port: int, authority: Authority) -> None:
        self._server = server
        self._port = port
        self.authority = authority
        self.trusted_url = server.dsn()
        self._files = server.data_dir.parent

    def serve(self, certificate: Certificate) -> None:
        """Use this certificate for new connections."""
        owner = self._server.data_dir.stat().st_uid
        names = {"ssl_ca_file": self.authority.file}
        names |= {"ssl_cert_file": certificate.certificate, "ssl_key_file": certificate.key}
        settings = ["ALTER SYSTEM SET ssl = on"]
        for setting, source in names.items():
            target = self._files / f"{setting}-{source.name}"
            shutil.copyfile(source, target)
            target.chmod(0o600)
            os.chown(target, owner, -1)
            settings.append(f"ALTER SYSTEM SET {setting} = '{target}'")
        with psycopg.connect(self.trusted_url, autocommit=True) as connection:
            for setting in settings:
                connection.execute(setting)
            connection.execute("SELECT pg_reload_conf()")
        wanted = ssl.PEM_cert_to_DER_cert(certificate.certificate.read_text())
        wait_until(lambda: self._shown() == wanted, seconds=10)

    def url(self, *, user: str = "anyone", **options: object) -> str:
        """``verify-full`` with the right CA, unless the options say otherwise."""
        given: dict[str, object] = {
            "host": "localhost",
            "hostaddr": "127.0.0.1",
            "port": self._port,
            "dbname": "postgres",
            "user": user,
            "sslmode": "verify-full",
            "sslrootcert": self.authority.file,
            **options,
        }
        return make_conninfo("", **{name: str(value) for name, value in given.items()})

    def certified(self, certificate: Certificate, *, user: str = "certified") -> str:
        return self.url(user=user, sslcert=certificate.certificate, sslkey=certificate.key)

    def _shown(self) -> bytes | None:
        """The certificate of a new connection."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", self._port), timeout=5) as connection:
            connection.sendall(struct.pack("!ii", 8, 80877103))
            if connection.recv(1) != b"S":
                return None
            with context.wrap_socket(connection) as secured:
                return secured.getpeercert(binary_form=True)


@contextmanager
def tls_postgres(data: Path, folder: Path) -> Iterator[TlsPostgres]:
    """A server on ``data``, with a certificate for ``localhost``."""
    port = free_port()
    rules = data.with_name("pg_hba.conf")
    rules.write_text(_RULES)
    options = {"listen_addresses": "127.0.0.1", "port": str(port), "hba_file": str(rules)}
    with EmbeddedPostgres(data, durable=False, bindir=system_binaries(), options=options) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE ROLE anyone LOGIN SUPERUSER")
            connection.execute("CREATE ROLE certified LOGIN SUPERUSER")
        authority = Authority.create(folder / "ca")
        found = TlsPostgres(server, port, authority)
        found.serve(authority.issue("server", hosts=("localhost",)))
        yield found
