"""Which receivers runs may name, and what of a URL a call uses.

A URL is taken apart once, here. The call uses these parts, so no second parser can read the URL in
another way. What the URL alone tells is refused with the request; the address of a host is checked
at each call, when it is known (``connections.py``).
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import SplitResult, urlsplit

from headrace.webhooks.addresses import Address, Network, refusal_of

_PORTS = {"https": 443, "http": 80}

#: Printable ASCII without space, and without what browsers and libraries read differently.
_PLAIN = re.compile(r"[!-\[\]-~]+")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
#: A host whose last label is a number: resolvers read it as an address in decimal, octal or hex.
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")
_MAX_HOST = 253


class UrlRefused(ValueError):
    """A webhook may not be sent to this URL. The message is a sentence for the caller."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """The parts of a URL.

    :ivar host: a name in lower case, or an address without brackets.
    :ivar target: path and query.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def address(self) -> Address | None:
        """The address, if the host is one."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """The value of the header ``Host``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class OutboundPolicy:
    """What settings and ``langgraph.json`` allow.

    :ivar domains: hosts that may be called, ``*.`` for those below one; empty: any.
    :ivar ports: empty: any.
    :ivar networks: networks that are not public and may be called.
    """

    require_https: bool = True
    domains: tuple[str, ...] = ()
    ports: frozenset[int] = frozenset()
    networks: tuple[Network, ...] = ()
    max_url_length: int = 2048

    def receiver(self, url: str) -> Receiver:
        """The receiver that ``url`` names.

        :raises UrlRefused: it may not be called, as far as the URL tells.
        """
        if len(url) > self.max_url_length:
            raise UrlRefused(
                f"it has {len(url)} characters, and webhooks.url.max_url_length allows"
                f" {self.max_url_length}"
            )
        parts = _split(url)
        host, port = _host(parts), _port(parts)
        if parts.scheme == "http" and self.require_https:
            raise UrlRefused(
                "it is not https; to allow http, set webhooks.url.require_https to false in"
                " langgraph.json, or HEADRACE_WEBHOOKS__REQUIRE_HTTPS"
            )
        if self.ports and port not in self.ports:
            raise UrlRefused(
                f"port {port} is not among those of webhooks.url.allowed_ports:"
                f" {', '.join(map(str, sorted(self.ports)))}"
            )
        self._check_host(host)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        found = Receiver(parts.scheme, host, port, target)
        if found.address is not None:
            self.check_address(found.address)
        elif host == "localhost" or host.endswith(".localhost"):
            self.check_address(IPv4Address("127.0.0.1"))
        return found

    def check_address(self, address: Address) -> None:
        """:raises UrlRefused: no webhook may call this address."""
        word = refusal_of(address, self.networks)
        if word == "metadata service":
            raise UrlRefused("its host is a metadata service, which no webhook may call")
        if word is not None:
            raise UrlRefused(
                f"its host has a {word} address; HEADRACE_WEBHOOKS__ALLOWED_NETWORKS allows"
                " networks, and webhooks.url.disable_loopback: false the machine itself"
            )

    def _check_host(self, host: str) -> None:
        if not self.domains:
            return
        for domain in self.domains:
            below = domain.removeprefix("*.")
            if host == domain.lower() or (below != domain and host.endswith(f".{below.lower()}")):
                return
        raise UrlRefused(f"host {host} is not among those of webhooks.url.allowed_domains")


def _split(url: str) -> SplitResult:
    if url.startswith("/"):
        raise UrlRefused(
            "it has no host: headrace does not call routes of its own app as webhooks; send the"
            " whole URL of the receiver"
        )
    if not _PLAIN.fullmatch(url):
        raise UrlRefused(
            "it has a space, a backslash or characters that are not ASCII; percent-encode them, and"
            " write a host in its xn-- form"
        )
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UrlRefused("it is no URL") from None
    if parts.scheme not in _PORTS:
        raise UrlRefused("it is not of the form https://host/path")
    if "@" in parts.netloc:
        raise UrlRefused(
            "it has a user name or a password; secrets of receivers belong into webhooks.headers of"
            " langgraph.json"
        )
    return parts


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0 or parts.netloc.endswith(":"):
        raise UrlRefused("its port is not a number from 1 to 65535")
    return port or _PORTS[parts.scheme]


def _host(parts: SplitResult) -> str:
    """The host in one form: an address as ``ipaddress`` writes it, or a name in lower case.

    :raises UrlRefused: it is neither.
    """
    host = (parts.hostname or "").removesuffix(".")
    if parts.netloc.startswith("["):
        if parts.netloc.rpartition("]")[2][:1] not in ("", ":"):
            raise UrlRefused("it has more than a port after the address")
        try:
            return str(IPv6Address(host))
        except ValueError:
            raise UrlRefused("its host is no address of IPv6") from None
    labels = host.split(".")
    if len(host) > _MAX_HOST or not all(map(_LABEL.fullmatch, labels)):
        raise UrlRefused("it names no host")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise UrlRefused(
                "its host is a number; write an address of IPv4 as four decimal numbers"
            ) from None
    return host
