"""API keys of the settings, and the check of a server without keys.

A key admits a caller. headrace tells callers apart by their keys only to share resources.

A server without keys answers callers on its own machine. The command line checks the address that
the server listens on. A user's app runs in a server that headrace does not know, so each request is
checked.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

from headrace.admission_errors import StrangerRefused
from headrace.errors import Unauthenticated

#: The header in which langgraph-sdk sends its ``api_key``.
HEADER = "x-api-key"

#: Hexadecimal digits of a digest that name a caller: too few to guess the key.
_NAME_LENGTH = 16


#: Headers that proxies add, besides ``x-forwarded-*``. A request with such a header comes from
#: another machine, or tries to look local: a server that trusts all proxies
#: (``--forwarded-allow-ips='*'``) takes the address of the caller from the header.
_PROXY_HEADERS = frozenset(
    {
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-forwarded-for",
        b"cf-connecting-ip",
        b"fastly-client-ip",
        b"fly-client-ip",
        b"true-client-ip",
    }
)

#: The address of Starlette's ``TestClient``. No caller over a network can have it.
_IN_PROCESS = "testclient"


class ApiKeys:
    """The keys of this server. Without keys it is open to everyone, or only to its own machine.

    It keeps only digests, and compares all of them in constant time: the time of an answer does not
    help to guess a key.

    :param local_only: without keys, answer only callers on this machine.
    """

    def __init__(self, keys: Iterable[str], *, local_only: bool = False) -> None:
        self._digests = [_digest(key) for key in keys]
        self._local_only = local_only and not self._digests

    def check(self, presented: str | None, scope: Mapping[str, Any] | None = None) -> str:
        """The name of the caller for :mod:`headrace.shares`: a part of the key's digest, or empty.

        :param scope: the ASGI scope of the request, for the check of a server without keys.
        :raises Unauthenticated: a key is needed, and ``presented`` is not one of them.
        :raises StrangerRefused: there are no keys, and the caller may be on another machine.
        """
        if not self._digests:
            if self._local_only and scope is not None and may_be_remote(scope):
                raise StrangerRefused
            return ""
        if presented is None:
            raise Unauthenticated(f"Send an API key in the header {HEADER}.")
        name = self.name_of(presented)
        if not name:
            raise Unauthenticated(f"The API key in the header {HEADER} is not known here.")
        return name

    def name_of(self, presented: str) -> str:
        """The name of the caller with this key; empty if it is none of these."""
        digest = _digest(presented)
        # Compare all of them, also after a match.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return digest.hex()[:_NAME_LENGTH] if any(matches) else ""


def bearer_of(authorization: str | None) -> str | None:
    """The key in ``Authorization: Bearer KEY``, as clients of other APIs send it."""
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def may_be_remote(scope: Mapping[str, Any]) -> bool:
    """Whether a request may come from another machine, by its ASGI scope."""
    for name, _ in scope.get("headers", ()):
        if name in _PROXY_HEADERS or name.startswith(b"x-forwarded-"):
            return True
    client = scope.get("client")
    # A unix socket has no address: its callers are on this machine.
    return client is not None and not _is_local(str(client[0]))


@lru_cache(maxsize=1024)
def _is_local(host: str) -> bool:
    if host in ("", _IN_PROCESS) or host.startswith(("unix:", "/")):
        return True
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
