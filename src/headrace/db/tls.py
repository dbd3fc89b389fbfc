"""Why a connection over TLS was refused: libpq's and OpenSSL's messages as sentences.

libpq says "certificate verify failed" for a wrong CA and for an expired certificate. To tell them
apart, :func:`certificate_fault` begins a TLS connection of its own, and sends nothing over it.
"""

import re
import socket
import ssl
import struct
from dataclasses import dataclass

from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

#: SSLRequest of the protocol of Postgres: the length of the message, and a number that is no
#: version. The server answers with one byte: S or N.
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)

#: X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL.
_NOT_YET_VALID, _EXPIRED = 9, 10

_WAIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class TlsProblem:
    """What is wrong, and what to change. Neither has a secret or a path."""

    what: str
    remedy: str


_UNTRUSTED = TlsProblem(
    "the server's certificate is not signed by the CA in sslrootcert",
    "Name the certificate of the CA that signs the server's in sslrootcert of DATABASE_URL.",
)
_OUT_OF_TIME = TlsProblem(
    "the server's certificate has expired, or is not valid yet",
    "Renew it on the server, and look at the clocks of both machines.",
)
_NOT_VALID = TlsProblem(
    "the server's certificate is not valid: the CA in sslrootcert has not signed it, or it has"
    " expired",
    "Name the certificate of its CA in sslrootcert of DATABASE_URL, or renew the certificate.",
)

#: What messages contain, in the order in which they are looked for.
_PROBLEMS: tuple[tuple[re.Pattern[str], TlsProblem], ...] = (
    # "signature failure": the CA has the name of the right one, and another key.
    (re.compile("certificate verify failed|SSL error: .*signature failure"), _NOT_VALID),
    (
        re.compile("server certificate for .* does not match host name"),
        TlsProblem(
            "the server's certificate is for another host name",
            "Use a host name of the certificate in DATABASE_URL, and give the address in hostaddr"
            " if it differs.",
        ),
    ),
    (
        re.compile("requires a valid client certificate|alert certificate required"),
        TlsProblem(
            "the server asks for a client certificate, and DATABASE_URL names none",
            "Name the certificate in sslcert and its key in sslkey.",
        ),
    ),
    (
        re.compile("alert certificate expired"),
        TlsProblem(
            "the server refuses the client certificate: it has expired",
            "Renew the file that sslcert names.",
        ),
    ),
    (
        re.compile(
            "alert (unknown ca|bad certificate|certificate unknown|certificate revoked"
            "|decrypt error)"
        ),
        TlsProblem(
            "the server refuses the client certificate",
            "Use one that the CA of the server's ssl_ca_file has signed, in sslcert and sslkey.",
        ),
    ),
    (
        re.compile("certificate authentication failed for user"),
        TlsProblem(
            "the client certificate is for another role",
            "Its common name (CN) must be the user of DATABASE_URL, or pg_ident.conf must map it.",
        ),
    ),
    (
        re.compile("root certificate file .* does not exist|could not read root certificate file"),
        TlsProblem(
            "the file in sslrootcert is not there, or holds no certificate",
            "Mount it, correct the path, or use sslrootcert=system for the CAs of the operating"
            " system.",
        ),
    ),
    (
        re.compile(
            "could not read certificate file|certificate present, but not private key"
            "|private key file|could not load private key|does not match private key"
        ),
        TlsProblem(
            "the files in sslcert and sslkey cannot be used: one is missing, they do not belong"
            " together, or others may read the key",
            "Mount both for this user, the key with the mode 0600 (0640 if it belongs to root).",
        ),
    ),
    (
        re.compile("does not support SSL, but SSL was required"),
        TlsProblem(
            "the server has TLS switched off, and sslmode of DATABASE_URL asks for it",
            "Set ssl = on on the server.",
        ),
    ),
)


def tls_problem(message: str) -> TlsProblem | None:
    """The problem that a message is about: of libpq, of the server, or a sentence of this module.

    None: it is about something else.
    """
    return next(
        (
            problem
            for found, problem in _PROBLEMS
            if found.search(message) or problem.what in message
        ),
        None,
    )


def certificate_fault(conninfo: str, problem: TlsProblem) -> TlsProblem:
    """A more precise form of ``problem``, if the server's certificate is not valid.

    It blocks for up to five seconds: it asks the server for its certificate again.
    """
    if problem is not _NOT_VALID:
        return problem
    try:
        _shake_hands(conninfo)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
            return _OUT_OF_TIME
        return _UNTRUSTED
    except ssl.SSLError as error:
        return _UNTRUSTED if "signature failure" in str(error) else problem
    except (OSError, ValueError):
        pass  # the server is away, or the file of the CA cannot be read
    return problem


def _shake_hands(conninfo: str) -> None:
    """Begin a TLS connection as libpq does.

    :raises ssl.SSLCertVerificationError: the server's certificate is not valid.
    :raises OSError, ValueError: something else stopped it.
    """
    given = conninfo_to_dict(conninfo)
    defaults = {
        option.keyword.decode(): option.val.decode()
        for option in Conninfo.get_defaults()
        if option.val
    }

    def value(name: str) -> str:
        return str(given.get(name) or defaults.get(name) or "")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if value("sslrootcert") in ("", "system"):
        context.load_default_certs()
    else:
        context.load_verify_locations(value("sslrootcert"))
    address = (value("hostaddr") or value("host")).partition(",")[0]
    port = int(value("port").partition(",")[0] or 5432)
    with socket.create_connection((address, port), timeout=_WAIT_SECONDS) as connection:
        connection.sendall(_SSL_REQUEST)
        if connection.recv(1) == b"S":
            with context.wrap_socket(connection):
                pass
