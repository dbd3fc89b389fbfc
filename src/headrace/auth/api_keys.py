"""API keys from the settings: they admit a caller, and tell one from another for shares alone."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any

from headrace.errors import StrangerRefused, Unauthenticated

#: What langgraph-sdk sends its ``api_key`` in.
HEADER = "x-api-key"

#: Hexadecimal digits of a digest that name a caller: too few to tell the key.
_NAME_LENGTH = 16


#: What a proxy adds to what it passes on, besides ``x-forwarded-*``. A request that has one came
#: from elsewhere, or wants to look as if it came from here: servers that believe any proxy
#: (``--forwarded-allow-ips='*'``) take the caller's address from these.
_OF_PROXIES = frozenset(
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

#: What ``TestClient`` calls itself; nobody who comes over a network has such an address.
_IN_PROCESS = "testclient"


class ApiKeys:
    """The keys that open this server; without any it is open to everyone, or to its own machine.

    Only digests are kept, and each is compared, in constant time: how long an answer takes tells
    nothing about a key.

    :param local_only: without keys, callers of this machine alone are answered.
    """

    def __init__(self, keys: Iterable[str], *, local_only: bool = False) -> None:
        self._digests = [_digest(key) for key in keys]
        self._local_only = local_only and not self._digests

    def check(self, presented: str | None, scope: Mapping[str, Any] | None = None) -> str:
        """The caller's name for :mod:`headrace.shares`: part of the digest of the key, or empty.

        :param scope: of the request, for what a server without keys asks instead.
        :raises Unauthenticated: a key is needed and ``presented`` is none of them.
        :raises StrangerRefused: there are no keys, and the caller may be on another machine.
        """
        if not self._digests:
            if self._local_only and scope is not None and may_be_remote(scope):
                raise StrangerRefused
            return ""
        if presented is None:
            raise Unauthenticated(f"Send an API key in the header {HEADER}.")
        digest = _digest(presented)
        # All of them are compared, whichever is the right one.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise Unauthenticated(f"The API key in the header {HEADER} is not known here.")
        return digest.hex()[:_NAME_LENGTH]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def may_be_remote(scope: Mapping[str, Any]) -> bool:
    """Whether a request may have come from another machine, by its ASGI scope."""
    for name, _ in scope.get("headers", ()):
        if name in _OF_PROXIES or name.startswith(b"x-forwarded-"):
            return True
    client = scope.get("client")
    # Over a unix socket there is no address: who may open its file is on this machine.
    return client is not None and not _is_here(str(client[0]))


def _is_here(host: str) -> bool:
    if host in ("", _IN_PROCESS) or host.startswith(("unix:", "/")):
        return True
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
