"""Takes connections from a listening socket that several processes share, each its part of them.

The loop's own server takes all that wait at once. So of 32 connections that a client opens and
keeps, one process often has two thirds. A process here takes one connection after another as long
as no other process has fewer. Otherwise it lets the other go first for a moment, and then takes
one, and after the next moment twice as many: the other may be busy, or stopped.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from headrace.server.connections import Connections
from headrace.server.spread import ProcessPlace

_log = structlog.stdlib.get_logger("headrace.connections")

#: Connections that are taken after a head start, at most.
_LARGEST_SHARE = 8
#: What a process with fewer connections is given to take the next one.
_HEAD_START_SECONDS = 0.005
#: Pause after the system refused a descriptor or memory.
_PAUSE_SECONDS = 0.1
#: Seconds between two log lines about that, at least.
_TELL_SECONDS = 10.0


#: Ends with the transport and the protocol of a connection.
_Connecting = Coroutine[Any, Any, Any]


class SharedListener:
    """Serves one socket until it is closed; as ``loop.create_server(sock=...)``, without TLS.

    :param sock: bound and listening.
    :param place: where this process publishes its number of connections.
    :param connections: tells how many may be taken and have no protocol yet. Only a protocol can
        refuse one or make room for it, and each has a descriptor until then.
    """

    def __init__(
        self,
        sock: socket.socket,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        place: ProcessPlace,
        connections: Connections,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._make_protocol = make_protocol
        self._place = place
        self._connections = connections
        #: Connections that were taken and have no protocol yet.
        self._connecting: dict[_Connecting, socket.socket] = {}
        self._timer: asyncio.TimerHandle | None = None
        #: Connections of the process with the fewest when its head start began.
        self._fewest = 0
        #: How many are taken after the next head start.
        self._share = 1
        self._told_at = float("-inf")
        self._open = True
        sock.setblocking(False)
        place.join()
        self._loop.add_reader(sock, self._take_in_turn)

    def is_serving(self) -> bool:
        return self._open

    def close(self) -> None:
        """Take no more. Connections that were taken stay."""
        if not self._open:
            return
        self._open = False
        # The system resets connections that wait for a process when the last one closes.
        for _ in range(self._connections.max_connections - self._connections.open):
            if not self._take():
                break
        self._place.leave()
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    async def wait_closed(self) -> None:
        """Nothing is left to wait for."""

    def _take_in_turn(self) -> None:
        while len(self._connecting) < self._connections.may_take():
            if self._place.is_ahead():
                self._fewest = self._place.fewest()
                self._pause(_HEAD_START_SECONDS)
                return
            self._share = 1
            if not self._take():
                return

    def _take_some(self) -> None:
        """After a head start: take some, if the process with the fewest has taken none."""
        self._timer = None
        self._loop.add_reader(self._socket, self._take_in_turn)
        if not self._place.is_ahead() or self._place.fewest() != self._fewest:
            # The reader is called again in the next turn.
            self._share = 1
            return
        for _ in range(self._share):
            if len(self._connecting) >= self._connections.may_take() or not self._take():
                return
        self._share = min(2 * self._share, _LARGEST_SHARE)

    def _pause(self, seconds: float) -> None:
        if self._timer is not None:
            return
        self._loop.remove_reader(self._socket)
        self._timer = self._loop.call_later(seconds, self._take_some)

    def _take(self) -> bool:
        """False: none waits, or none can be taken now."""
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            self._tell(error)
            self._pause(_PAUSE_SECONDS)
            return False
        self._place.count_one()
        self._connect(connection)
        return True

    def _tell(self, error: OSError) -> None:
        now = self._loop.time()
        if now - self._told_at > _TELL_SECONDS:
            self._told_at = now
            _log.error("connections_not_taken", why=str(error))

    def _connect(self, connection: socket.socket) -> None:
        """Give the connection its protocol: as a task would, but the first step is now.

        A task would take its first step in the next turn of the loop, and turns are long under
        load.
        """
        connection.setblocking(False)
        connecting = self._loop.connect_accepted_socket(self._make_protocol, connection)
        self._connecting[connecting] = connection
        self._go_on(connecting)

    def _go_on(self, connecting: _Connecting) -> None:
        try:
            connected = connecting.send(None)
        except StopIteration:
            del self._connecting[connecting]
        except Exception as error:
            self._connecting.pop(connecting).close()
            # A client that has gone already is no trouble of ours.
            if not isinstance(error, OSError):
                _log.exception("connection_not_taken")
        else:
            # As a task does with a future that it waits for.
            connected._asyncio_future_blocking = False
            connected.add_done_callback(lambda _: self._go_on(connecting))
