"""Which web pages may use this server, and what keeps other pages out.

A browser sends requests for any page that a person opens, to servers on the person's own machine
too. A page cannot send an API key that it does not know. So where callers need a key, CORS alone
decides. A server that asks for no key is protected by three rules:

- ``Host`` must be a name of this server. A page can point a name of its own at 127.0.0.1 (DNS
  rebinding), and then it has the same origin as the server.
- A request that may change something must not come from a page of another origin.
- A body must be JSON by its ``Content-Type``. A page can send any other body without asking first;
  for JSON the browser asks, and CORS answers.

Handlers of ``langgraph.json`` may know a caller by what a browser sends by itself: cookies, a
password, its address. So there the last two rules hold for what a page can send without asking.

Routes apply the rules, not a middleware. So they hold in an app of the user too.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from headrace.admission_errors import HostRefused, JSONRequired, PageRefused

#: Pages of this machine, on any port.
LOOPBACK_PAGES = r"https?://(localhost|[a-z0-9.-]+\.localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?"

#: Methods that change nothing. A page may send them, and cannot read the answer.
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_EVERY = "*"
_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::\d*)?")

Headers = Iterable[tuple[bytes, bytes]]


class Origins:
    """Origins of web pages: named, or matched by a pattern."""

    def __init__(self, named: Iterable[str] = (), patterns: Iterable[str] = ()) -> None:
        self._named = frozenset(named)
        self._patterns = [re.compile(pattern) for pattern in patterns]

    def have(self, origin: str) -> bool:
        return (
            _EVERY in self._named
            or origin in self._named
            or any(pattern.fullmatch(origin) for pattern in self._patterns)
        )


class WebPages:
    """The rules of one process.

    :param origins: pages that may use the server. Pages of the server itself always may.
    :param guarded: whether no caller needs a key.
    :param handled: whether handlers tell who calls.
    :param hosts: names that ``Host`` may have, besides addresses and the name that the server is
        reached by; ``*.name`` for names below. None: it may have any.
    """

    def __init__(
        self,
        origins: Origins,
        *,
        guarded: bool,
        hosts: Sequence[str] | None,
        handled: bool = False,
    ) -> None:
        self._origins = origins
        self._guarded = guarded
        self._handled = handled
        self._hosts: frozenset[str] | None = None
        self._below: tuple[str, ...] = ()
        if hosts is not None and _EVERY not in hosts:
            self._hosts = frozenset(hosts)
            self._below = tuple(name[1:] for name in hosts if name.startswith("*."))

    def check(self, scope: Mapping[str, Any]) -> None:
        """
        :raises HostRefused: the request names another server.
        :raises PageRefused: a page of another origin has sent it, and it may change something.
        :raises JSONRequired: it has a body that is not called JSON.
        """
        self.check_host(scope)
        if not (self._guarded or self._handled) or scope["type"] != "http":
            return
        if scope["method"] in _READING:
            return
        sent = _Sent(scope["headers"])
        if not self._guarded and (scope["method"] != "POST" or sent.is_asked):
            return
        if any(not self._may_come_from(origin, sent.host) for origin in sent.origins) or (
            not sent.origins and sent.is_cross_site
        ):
            raise PageRefused
        if sent.has_body and not sent.is_json:
            raise JSONRequired

    def check_host(self, scope: Mapping[str, Any]) -> None:
        """:raises HostRefused: the request names another server."""
        if self._hosts is None:
            return
        for name, value in scope["headers"]:
            if name == b"host" and not self._is_own(value.decode("latin-1"), scope.get("server")):
                raise HostRefused

    def check_connection(self, scope: Mapping[str, Any]) -> None:
        """A WebSocket: a browser opens one for any page, and asks nobody. So this holds with keys
        too.

        :raises HostRefused, PageRefused: as :meth:`check`.
        """
        self.check_host(scope)
        sent = _Sent(scope["headers"])
        if any(not self._may_come_from(origin, sent.host) for origin in sent.origins):
            raise PageRefused

    def _may_come_from(self, origin: str, host: str | None) -> bool:
        own = origin.partition("://")[2] == host
        return (own and bool(host)) or self._origins.have(origin)

    def _is_own(self, host: str, server: Sequence[Any] | None) -> bool:
        """Whether a ``Host`` is a name of this server."""
        name = _without_port(host).lower().rstrip(".")
        assert self._hosts is not None
        # A real server has an address here; one within a test has the name of its URL.
        reached = str(server[0]).lower() if server else None
        if name == reached or name in self._hosts or name.endswith(self._below):
            return True
        # A page that is at an address has reached this very address.
        return name == "localhost" or name.endswith(".localhost") or _is_address(name)


class _Sent:
    """What the headers of a request say to the rules."""

    __slots__ = ("has_body", "has_key", "host", "is_cross_site", "is_json", "origins")

    def __init__(self, headers: Headers) -> None:
        self.host: str | None = None
        self.origins: list[str] = []
        self.is_cross_site = False
        self.has_body = False
        self.has_key = False
        self.is_json = False
        for name, raw in headers:
            if name == b"host":
                self.host = raw.decode("latin-1")
            elif name == b"origin":
                self.origins.append(raw.decode("latin-1"))
            elif name == b"sec-fetch-site":
                self.is_cross_site = raw.strip() == b"cross-site"
            elif name == b"content-type":
                kind = raw.partition(b";")[0].strip().lower()
                self.is_json = kind == b"application/json" or kind.endswith(b"+json")
            elif name == b"transfer-encoding":
                self.has_body = True
            elif name == b"content-length":
                self.has_body = self.has_body or raw.strip(b" 0") != b""
            elif name == b"x-api-key":
                self.has_key = True
            elif name == b"authorization":
                # Browsers send the password of an earlier page by themselves.
                self.has_key = not raw.strip().lower().startswith((b"basic", b"digest", b"nego"))

    @property
    def is_asked(self) -> bool:
        """Whether a browser lets a page send this only after it has asked the server."""
        return self.is_json or self.has_key


def _without_port(host: str) -> str:
    found = _HOST.fullmatch(host)
    return (found[1] or found[2] or "") if found is not None else ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
