"""The connections of a process: how many there may be, and how long each may keep it waiting.

A connection costs a file descriptor and memory whether a request comes or not, and nobody needs a
key to open one. So there is a bound below the limit of descriptors; beyond it the connections that
have waited longest without a request make room, and a new one is refused only where all others have
work under way. A look once a second ends what no longer moves. What is being answered is never
idle: streams and long waits last as long as they will.
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import structlog

from headrace.observability.metrics import Metrics
from headrace.setting_groups import ServerSettings
from headrace.settings import Settings

_log = structlog.stdlib.get_logger("headrace.connections")

_LOOK_SECONDS = 1.0
#: Why connections were cut is told this often at most, whatever happens.
_TELL_SECONDS = 10.0
#: Refused connections that may linger until their clients have read why; part of the descriptors
#: that are kept back.
_MAX_LEAVING = 64
_LEAVING_PART = 4
#: Descriptors for everything that is no connection of a client: files, pipes, listeners, and those
#: who ask on the port of health and metrics.
_OWN_DESCRIPTORS = 128
#: A burst of new connections is accepted before the first of them can be refused.
_BURST = 2048


class Connection(Protocol):
    """What is looked after."""

    def look(self, seconds: float) -> None:
        """End it if it is overdue; ``seconds`` have passed since the last look."""

    def drop(self) -> None:
        """Close it at once, whatever is under way."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, and one connection, may take."""

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
        self, limits: Limits, *, max_connections: int, max_leaving: int = _MAX_LEAVING
    ) -> None:
        self.limits = limits
        self.max_connections = max_connections
        self._max_leaving = max_leaving
        self._looked_after: dict[Connection, None] = {}
        #: WebSockets too, which end by their own rules.
        self._all: Collection[object] = ()
        #: Without a request under way; the one that has been so longest comes first.
        self._waiting: dict[Connection, None] = {}
        #: Answered for the last time, or aborted; the oldest first.
        self._leaving: dict[Connection, None] = {}
        #: Where open and cut connections are counted; the lifespan makes it after the listener.
        self._metrics: Metrics | None = None
        self._untold: Counter[str] = Counter()
        self._told_at = float("-inf")

    @property
    def open(self) -> int:
        return len(self._all)

    def count_in(self, metrics: Metrics) -> None:
        """Count open connections, and those that are cut, in ``metrics`` from now on."""
        self._metrics = metrics
        self._count_open()

    def admit(self, connection: Connection, all_open: Collection[object]) -> bool:
        """Take a new connection; False where it has to be refused, because all are at work.

        :param all_open: every connection of the server, this one included.
        """
        self._all = all_open
        self._looked_after[connection] = None
        self._count_open()
        if len(all_open) - len(self._leaving) > self.max_connections and not self._make_room():
            return False
        self._waiting[connection] = None
        return True

    def begin_work(self, connection: Connection) -> None:
        """A request has come whole, but for its body."""
        self._waiting.pop(connection, None)

    def begin_wait(self, connection: Connection) -> None:
        """It waits for a request, or for the rest of a body that does not come."""
        if connection not in self._leaving:
            self._waiting[connection] = None

    def begin_leave(self, connection: Connection) -> None:
        """It has had its last answer and goes once the client has read that."""
        self._waiting.pop(connection, None)
        self._leaving[connection] = None
        if len(self._leaving) > self._max_leaving:
            next(iter(self._leaving)).drop()

    def forget(self, connection: Connection) -> None:
        for held in (self._looked_after, self._waiting, self._leaving):
            held.pop(connection, None)
        self._count_open()

    def record_cut(self, reason: str) -> None:
        """Count one that is cut; the log tells how many, and not each."""
        if self._metrics is not None:
            self._metrics.count_cut_connection(reason)
        self._untold[reason] += 1

    async def look_after(self) -> None:
        """End what is overdue, until cancelled."""
        seconds = min(_LOOK_SECONDS, self.limits.shortest_seconds / 4)
        looked = monotonic()
        while True:
            await asyncio.sleep(seconds)
            before, looked = looked, monotonic()
            # A loop that was blocked must not blame the clients for that.
            passed = min(looked - before, 2 * seconds)
            for connection in list(self._looked_after):
                try:
                    connection.look(passed)
                except Exception:
                    # A defect: it must not leave the others unwatched.
                    _log.exception("connection_not_watched")
                    connection.drop()
            # WebSockets come and go by rules of their own.
            self._count_open()
            self._tell(looked)

    def _count_open(self) -> None:
        if self._metrics is not None:
            self._metrics.connections_open = self.open

    def _make_room(self) -> bool:
        longest = next(iter(self._waiting), None)
        if longest is None:
            return False
        self.record_cut("made_room")
        self.begin_leave(longest)
        longest.drop()
        return True

    def _tell(self, now: float) -> None:
        if self._untold and now - self._told_at > _TELL_SECONDS:
            _log.warning("connections_cut", open=len(self._all), **self._untold)
            self._untold.clear()
            self._told_at = now


def connections_of(settings: Settings) -> Connections:
    """The bound is the setting's, or what the limit of descriptors leaves, if that is less.

    The soft limit is raised towards the hard one where that is needed. What pool and graphs may
    open of their own is left to them.
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
