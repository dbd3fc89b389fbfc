"""Connections to receivers: a host is resolved once, all its addresses are checked, and the
connection goes to one of those.

TLS still names the host and checks its certificate, because only the address below is replaced.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import ip_address
from typing import Any

import httpcore2

from headrace.shares import Gate, Places, Share, current_caller
from headrace.thread_pool import in_a_thread
from headrace.webhooks.addresses import Address
from headrace.webhooks.policy import OutboundPolicy

#: Look-ups at once. Those that do not end would take all threads that are not for runs.
_LOOKUPS = 8
#: The call that waits for a look-up ends earlier.
_LONGEST_WAIT_SECONDS = 3600.0

Lookup = Callable[[str, int], Iterable[Any]]


def system_lookup(host: str, port: int) -> Iterable[Any]:
    """As ``socket.getaddrinfo``, for TCP.

    :raises OSError: the host is not known.
    """
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections to addresses that the policy allows, and to no others.

    :param share: the part of its own and the free look-ups that one caller may have: names of a
        server that does not answer take long. The caller is that of the context.
    :param lookup: as ``socket.getaddrinfo``, which it is.
    """

    def __init__(
        self,
        policy: OutboundPolicy,
        *,
        share: Share | float = 1.0,
        lookup: Lookup = system_lookup,
    ) -> None:
        self._policy = policy
        self._lookup = lookup
        self._lookups = Gate(Places(_LOOKUPS, share), timeout_seconds=_LONGEST_WAIT_SECONDS)
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """
        :raises UrlRefused: an address of the host may not be called.
        :raises httpcore2.ConnectError: the host has no address, or none of them answers.
        """
        failure: Exception = httpcore2.ConnectError("the host has no address")
        for address in await self._checked(host, port):
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _checked(self, host: str, port: int) -> list[Address]:
        try:
            found = await self._looked_up(host, port)
        except OSError as error:
            raise httpcore2.ConnectError("the host is not known") from error
        addresses = list(dict.fromkeys(ip_address(entry[4][0]) for entry in found))
        # One public address among others would be enough for a receiver that wants to be let in.
        for address in addresses:
            self._policy.check_address(address)
        return addresses

    async def _looked_up(self, host: str, port: int) -> Iterable[Any]:
        caller = current_caller.get()
        await self._lookups.take(caller)

        def leave(ended: asyncio.Future[Iterable[Any]]) -> None:
            self._lookups.release(caller)
            if not ended.cancelled():
                # A call that was given up does not ask for the error: asyncio would log it.
                ended.exception()

        try:
            looking = in_a_thread(partial(self._lookup, host, port))
        except RuntimeError:
            self._lookups.release(caller)
            raise
        # Not earlier: a call that was given up leaves its thread behind.
        looking.add_done_callback(leave)
        return await asyncio.shield(looking)


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Certificates of the system's authorities, and of those in the file, are trusted.

    :raises OSError: the file cannot be read, or has no certificate.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        context.load_verify_locations(ca_file)
    return context
