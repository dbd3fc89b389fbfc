"""Which addresses a webhook may call: public ones, and those of networks that a setting allows.

What is not in a list of Python's ``ipaddress`` differs from release to release. So the lists stand
here.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Addresses of metadata services: they give away the credentials of the machine. No setting allows
#: them. The one of Azure is a public address.
_METADATA = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",
            "169.254.169.253",
            "169.254.170.2",
            "169.254.170.23",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::253",
            "fd00:ec2::23",
            "fd20:ce::254",
        ),
    )
)

_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))

#: What lies in each of these is not public; the word is for sentences.
_NOT_PUBLIC_4 = tuple(
    (IPv4Network(network), word)
    for network, word in (
        ("0.0.0.0/8", "reserved"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared (CGNAT)"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "reserved"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "reserved"),
        ("198.51.100.0/24", "reserved"),
        ("203.0.113.0/24", "reserved"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)

#: In IPv6 the public addresses are one network, less these parts of it. 2002::/16 (6to4) stands for
#: addresses of IPv4, and no working network needs it any more.
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    (IPv6Network(network), word)
    for network, word in (
        ("::/128", "reserved"),
        ("::1/128", "loopback"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("fc00::/7", "private"),
        ("ff00::/8", "multicast"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "reserved"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "reserved"),
    )
)

#: Addresses that stand for one of IPv4, which is in their last four bytes: mapped ones, and those
#: of NAT64, which an IPv6-only network has for every receiver.
_EMBEDDING = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))


def loopback_networks() -> tuple[Network, ...]:
    """The networks of the machine itself."""
    return _LOOPBACK


def refusal_of(address: Address, allowed: Sequence[Network]) -> str | None:
    """Why a webhook may not call ``address``, as a word like ``private``; None: it may.

    :param allowed: networks that may be called although they are not public.
    """
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return "link-local"
        for network in _EMBEDDING:
            if address in network:
                return refusal_of(IPv4Address(address.packed[-4:]), allowed)
    if address in _METADATA:
        return "metadata service"
    if any(address in network for network in allowed):
        return None
    if isinstance(address, IPv4Address):
        return _word(address, _NOT_PUBLIC_4)
    return _word(address, _NOT_PUBLIC_6) or (None if address in _PUBLIC_6 else "reserved")


def _word(address: Address, networks: Sequence[tuple[Network, str]]) -> str | None:
    return next((word for network, word in networks if address in network), None)
