"""The name of a caller of the user's app, for shares."""

from collections.abc import MutableMapping
from contextlib import suppress
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from headrace.auth.identity import principal_of

#: One customer of a provider usually has a whole network of this length.
_IPV6_PREFIX = 64


def caller_of(scope: MutableMapping[str, Any]) -> str:
    """The caller's name for shares; by its address, if nobody has told who it is."""
    with suppress(LookupError):
        if caller := principal_of(scope).caller:
            return caller
    return address_of(scope.get("client"))


def address_of(client: tuple[str, int] | None) -> str:
    """The caller's name by its address; for IPv6, by its network."""
    if client is None:
        return "address unknown"
    host = client[0].partition("%")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return f"address {host}"
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        # So a listener of both kinds names its clients with IPv4.
        address = address.ipv4_mapped
    if isinstance(address, IPv6Address):
        return f"address {ip_network((address, _IPV6_PREFIX), strict=False)}"
    return f"address {address}"
