"""The settings of the edge: proxies, web pages, hosts, and the pages about the server."""

import re
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from headrace.setting_groups import Group, comma_separated

#: ``name``, ``*.name``, an address, or ``*`` for every host.
_HOST = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f.:]*:[0-9a-f.:]*", re.IGNORECASE)


class EdgeSettings(Group):
    """Who may stand in front of the server, and which web pages may use it (docs/edge.md)."""

    trusted_proxies: str = Field(
        "",
        description="Networks of the proxies in front, separated by commas, as `10.0.0.0/8`. Of"
        " `X-Forwarded-For` the last address that is in none of them is the client in the log."
        " Empty: no such header is believed.",
    )
    allowed_hosts: str = Field(
        "",
        description="Names that requests may have in `Host`, separated by commas; `*.example.com`:"
        " every name below it, `*`: all. Empty: without keys, and answering only this machine,"
        " `localhost` and addresses; else all.",
    )
    allowed_origins: str = Field(
        "",
        description="Origins of web pages that may use the server, separated by commas, as"
        " `https://app.example.com`; `*`: all. `http.cors` of langgraph.json wins. Empty: none;"
        " without keys, pages of this machine.",
    )
    hsts_seconds: int = Field(
        0,
        ge=0,
        description="`max-age` of `Strict-Transport-Security` in answers; 0: no such header. For a"
        " server that is reached by HTTPS alone.",
    )
    docs: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether `/docs`, `/redoc` and `/openapi.json` are served. `auto`: yes, but not"
        " with `HEADRACE_AUTH=none`. Where callers need a key, `/openapi.json` needs one.",
    )
    metrics: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether the port of the API serves `/metrics`. `auto`: to callers who see the"
        " whole tenant `default`, as those with a key of `HEADRACE_API_KEYS`, but not with"
        " `HEADRACE_AUTH=none`; `on`: to all. With `HEADRACE_METRICS__PORT` it is only there.",
    )

    @property
    def proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(one) for one in comma_separated(self.trusted_proxies))

    @property
    def host_names(self) -> tuple[str, ...]:
        """Lower-case names, without brackets."""
        return tuple(name.strip("[]").lower() for name in comma_separated(self.allowed_hosts))

    @property
    def origins(self) -> tuple[str, ...]:
        return comma_separated(self.allowed_origins)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        for one in comma_separated(value):
            try:
                ip_network(one)
            except ValueError as error:
                raise ValueError(
                    f"{one!r} is no network ({error}); write 10.0.0.0/8, or one address. Anybody"
                    " could forge an address if all were trusted"
                ) from None
        return value

    @model_validator(mode="after")
    def _names(self) -> Self:
        for name in self.host_names:
            if not _HOST.fullmatch(name):
                raise ValueError(
                    f"allowed_hosts: {name!r} is no name of a host; write names without scheme,"
                    " port and path"
                )
        try:
            check_origins(self.origins)
        except ValueError as error:
            raise ValueError(f"allowed_origins: {error}") from None
        return self


def check_origins(origins: Iterable[str]) -> None:
    """The one check of origins, for the setting and for ``http.cors`` of the manifest.

    :raises ValueError: no browser sends one of them, so it would let no page in.
    """
    for origin in origins:
        if origin == "*":
            continue
        if not _is_origin(origin):
            raise ValueError(
                f"{origin!r} is no origin; write https://app.example.com, without a path"
            )
        if (sent := _as_browsers_send(origin)) != origin:
            raise ValueError(
                f"browsers never send {origin!r}; "
                + (
                    "write each origin in full, or a pattern as http.cors.allow_origin_regex"
                    " of langgraph.json"
                    if "*" in origin
                    else f"write {sent}"
                )
            )


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        # It has an address in brackets that is none, such as http://[x].
        return False
    return bool(parts.netloc) and text == f"{parts.scheme}://{parts.netloc}"


def _as_browsers_send(origin: str) -> str:
    """An origin with a name in lower case and in ASCII, and without the usual port of its scheme.

    Empty for a pattern: no browser sends one.
    """
    if "*" in origin:
        return ""
    sent = origin.lower()
    with suppress(UnicodeError):
        scheme, _, host = sent.partition("://")
        sent = f"{scheme}://{host if host.isascii() else host.encode('idna').decode()}"
    for scheme, port in (("http", ":80"), ("https", ":443")):
        if sent.startswith(f"{scheme}://"):
            sent = sent.removesuffix(port)
    return sent
