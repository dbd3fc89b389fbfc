"""The connections of a process: how many there may be, and how long each may stay without progress.

A connection costs a file descriptor and memory even without a request, and opening one needs no
key. So their number is bounded below the limit of descriptors. At the bound, the connection that
has waited longest without a request is closed to make room; a new one is refused only if all others
have work under way. A check once a second closes connections that make no progress. A connection is
never idle while its request is being answered: streams and long waits may last as long as they
need.
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

import structlog

from headrace.edge.exchange import exchange_of, is_unclaimed, refuse_beforehand
from headrace.edge.rates import Rates
from headrace.observability.metrics import Metrics
from headrace.server.spread import ProcessPlace
from headrace.setting_groups import ServerSettings
from headrace.settings import Settings

_log = structlog.stdlib.get_logger("headrace.connections")

_LOOK_SECONDS = 1.0
#: Seconds between two log lines about cut connections, at least.
_TELL_SECONDS = 10.0
#: Refused connections that may stay open until their clients have read the reason. They use some of
#: the descriptors that are kept free.
_MAX_LEAVING = 64
_LEAVING_PART = 4
#: New connections that may be on their way at once.
_NEW = 8
#: Descriptors for everything else: files, pipes, listeners, and connections to the port of health
#: and metrics.
_OWN_DESCRIPTORS = 128
#: Frames of a WebSocket that may come for each message: its parts, and pings between them.
_FRAMES_A_MESSAGE = 4
#: The loop may accept so many new connections at once before it can refuse the first of them.
_BURST = 2048


class Connection(Protocol):
    """A connection that :class:`Connections` supervises."""

    def look(self, seconds: float) -> None:
        """Close it if it is overdue. ``seconds`` have passed since the last check."""

    def drop(self) -> None:
        """Close it at once, even with work under way."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one request and of one connection."""

    max_request_line_bytes: int
    max_header_bytes: int
    max_headers: int
    header_timeout_seconds: float
    body_timeout_seconds: float
    unread_timeout_seconds: float

    @classmethod
    def of(cls, settings: ServerSettings) -> "Limits":
        return cls(
            max_request_line_bytes=settings.max_request_line_bytes,
            max_header_bytes=settings.max_header_bytes,
            max_headers=settings.max_headers,
            header_timeout_seconds=settings.header_timeout_seconds,
            body_timeout_seconds=settings.body_timeout_seconds,
            unread_timeout_seconds=settings.unread_timeout_seconds,
        )

    @property
    def shortest_seconds(self) -> float:
        return min(
            self.header_timeout_seconds, self.body_timeout_seconds, self.unread_timeout_seconds
        )


class Connections:
    """All connections of one listener in one process; used on one event loop."""

    def __init__(
        self,
        limits: Limits,
        *,
        max_connections: int,
        max_leaving: int = _MAX_LEAVING,
        frame_rates: Rates | None = None,
    ) -> None:
        self.limits = limits
        #: How fast callers may send frames on WebSockets.
        self.frame_rates = frame_rates or Rates(0.0, 0.0)
        self.max_connections = max_connections
        self._max_leaving = max_leaving
        self._looked_after: dict[Connection, None] = {}
        #: All connections of the server, WebSockets included.
        self._all: Collection[object] = ()
        #: Connections without a request under way; the one that has waited longest comes first.
        self._waiting: dict[Connection, None] = {}
        #: Connections that have had their last answer or were aborted; the oldest first.
        self._leaving: dict[Connection, None] = {}
        #: Counts open and cut connections. None until the lifespan has started.
        self._metrics: Metrics | None = None
        #: Where other processes see how many there are here.
        self._place: ProcessPlace | None = None
        self._unlogged: Counter[str] = Counter()
        self._told_at = float("-inf")
        #: Each answer ends its connection: the process drains, and its clients are to leave.
        self.ending = False

    @property
    def open(self) -> int:
        return len(self._all)

    def may_take(self) -> int:
        """How many new ones may be on their way here. Near the bound there are few descriptors."""
        return _NEW if self.open + 4 * _NEW < self.max_connections else 1

    def count_in(self, metrics: Metrics) -> None:
        """Count open connections, and those that are cut, in ``metrics`` from now on."""
        self._metrics = metrics
        self._count_open()

    def publish_in(self, place: ProcessPlace) -> None:
        """Tell the other processes of the pod how many there are, from now on."""
        self._place = place

    def admit(self, connection: Connection, all_open: Collection[object]) -> bool:
        """Take a new connection. False: refuse it, because all others are at work.

        :param all_open: every connection of the server, this one included.
        """
        self._all = all_open
        self._looked_after[connection] = None
        self._count_open()
        if len(all_open) - len(self._leaving) > self.max_connections and not self._make_room():
            return False
        self._waiting[connection] = None
        return True

    def take_socket(self, socket: Connection) -> None:
        """Look after a WebSocket, which was a connection before. It is never idle."""
        self._looked_after[socket] = None

    def begin_work(self, connection: Connection) -> None:
        """The head of a request has arrived."""
        self._waiting.pop(connection, None)

    def begin_wait(self, connection: Connection) -> None:
        """The connection waits for a request, or for the rest of a body that does not come."""
        if connection not in self._leaving:
            self._waiting[connection] = None

    def begin_leave(self, connection: Connection) -> None:
        """The last answer is written. The connection closes once the client has read it."""
        self._waiting.pop(connection, None)
        self._leaving[connection] = None
        if len(self._leaving) > self._max_leaving:
            next(iter(self._leaving)).drop()

    def forget(self, connection: Connection) -> None:
        for held in (self._looked_after, self._waiting, self._leaving):
            held.pop(connection, None)
        self._count_open()

    def record_cut(self, reason: str) -> None:
        """Count a connection that is cut. The log reports numbers, not single connections."""
        if self._metrics is not None:
            self._metrics.http.count_cut_connection(reason)
        self._unlogged[reason] += 1

    def count_refusal(self, status: int, code: str, scope: Mapping[str, Any] | None = None) -> None:
        """Count an answer of the server itself.

        :param scope: of the request that it answers; None: it answers what is no whole request.
        """
        if scope is None:
            if self._metrics is not None:
                self._metrics.http.count_refused_connection(status, code)
        elif (exchange := exchange_of(scope)) is not None:
            # The middleware counts the request.
            exchange.refuse(status, code)
        else:
            # The app has not begun it. Its task begins before the call.
            refuse_beforehand(scope, status, code)
            asyncio.get_running_loop().call_soon(self._count_unclaimed, scope, status, code)

    def _count_unclaimed(self, scope: Mapping[str, Any], status: int, code: str) -> None:
        """Count it if the app has no middleware that did."""
        if is_unclaimed(scope):
            self.count_refusal(status, code)

    async def look_after(self) -> None:
        """Close overdue connections until cancelled."""
        seconds = min(_LOOK_SECONDS, self.limits.shortest_seconds / 4)
        looked = monotonic()
        while True:
            await asyncio.sleep(seconds)
            before, looked = looked, monotonic()
            # If the event loop was blocked, do not count the blocked time against clients.
            passed = min(looked - before, 2 * seconds)
            for connection in list(self._looked_after):
                try:
                    connection.look(passed)
                except Exception:
                    # A defect in one connection must not leave the others unsupervised.
                    _log.exception("connection_not_watched")
                    connection.drop()
            # A WebSocket that closes is not reported here.
            self._count_open()
            self._tell(looked)

    def _count_open(self) -> None:
        if self._metrics is not None:
            self._metrics.http.connections_open = self.open
        if self._place is not None:
            self._place.publish(self.open)

    def _make_room(self) -> bool:
        longest = next(iter(self._waiting), None)
        if longest is None:
            return False
        self.record_cut("made_room")
        self.begin_leave(longest)
        longest.drop()
        return True

    def _tell(self, now: float) -> None:
        if self._unlogged and now - self._told_at > _TELL_SECONDS:
            _log.warning("connections_cut", open=len(self._all), **self._unlogged)
            self._unlogged.clear()
            self._told_at = now


def connections_of(settings: Settings) -> Connections:
    """Connections with the bound of the setting, or with a lower one if the limit of descriptors
    needs it.

    The soft limit of descriptors is raised if necessary, at most to the hard limit. Descriptors for
    the pool and the graphs are kept free.
    """
    server = settings.server
    others = settings.database.pool_max + settings.worker.max_concurrent_runs + _OWN_DESCRIPTORS
    soft = _raised_limit(server.max_connections + others + _BURST)
    kept = min(others, soft // 3)
    bound = max(1, min(server.max_connections, soft - kept))
    if bound < server.max_connections:
        _log.warning(
            "connections_bounded",
            max_connections=bound,
            setting=server.max_connections,
            open_files_limit=soft,
        )
    return Connections(
        Limits.of(server),
        max_connections=bound,
        max_leaving=min(_MAX_LEAVING, kept // _LEAVING_PART),
        frame_rates=Rates(
            _FRAMES_A_MESSAGE * settings.callers.requests_per_second,
            settings.callers.burst_seconds,
        ),
    )


def _raised_limit(wanted: int) -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft in (resource.RLIM_INFINITY, -1):
        return wanted
    if soft >= wanted:
        return soft
    most = wanted if hard in (resource.RLIM_INFINITY, -1) else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        return soft
    return most
