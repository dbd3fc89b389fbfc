"""Who is on this machine: the callers of a server that has no keys to ask for.

The server's command line looks at the address it listens on. An app of the user's is served by a
server that headrace does not know, so each request is looked at.
"""

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any

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


def is_stranger(scope: Mapping[str, Any]) -> bool:
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
