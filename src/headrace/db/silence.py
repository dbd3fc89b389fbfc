"""Ends connections that wait for an answer which will not come.

TCP finds out about a server that acknowledges nothing. It finds nothing wrong where something in
between acknowledges what it loses, such as a proxy that hangs: a statement without a time limit
would then wait for ever. So a process that has waited for long asks Postgres, over a new
connection, what its backend does for the waiting one. If it works on nothing, then either the
question or the answer is lost. It is asked twice before the connection is ended.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from weakref import WeakKeyDictionary

import psycopg
import structlog
from psycopg.pq import TransactionStatus

from headrace.db.pool import Connection, SharedPool, shut
from headrace.db.probe import asked
from headrace.db.statements import Statement
from headrace.db.traffic import present_wait
from headrace.lifecycle import Tasks
from headrace.unavailable_errors import DatabaseUnavailable

#: The statement finds backends that may work. One that waits for its client works on nothing; it
#: counts as active in the middle of a message. To write to the client, it may wait for a slow
#: reader: that is work. Without ``track_activities`` nobody knows.
_WORKING = Statement(
    b"""
SELECT pid FROM pg_stat_activity
WHERE pid = ANY (%s)
  AND (state LIKE 'idle%%' OR state = 'active' AND wait_event = 'ClientRead') IS NOT TRUE
"""
)
#: Linux tells when data was last sent and received, in milliseconds: two numbers of ``tcp_info``.
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
_LAST_DATA = struct.Struct("=44xI4xI")
_ASK_SECONDS = 5.0
_AGAIN_SECONDS = 1.0

_log = structlog.stdlib.get_logger("headrace.pool")


class Silence:
    """One per process. Behind a pooler it does nothing: the pooler's backends are not the pool's.

    :param seconds: after this time of waiting for one statement, Postgres is asked. It looks
        twice in that time.
    :param count: called for each connection that was ended.
    """

    def __init__(
        self, pool: SharedPool, *, seconds: float, count: Callable[[], None] = lambda: None
    ) -> None:
        self._pool = pool
        self._seconds = seconds
        self._count = count
        #: For each waiting connection: the number of its wait, and when it was first seen so.
        self._waiting: WeakKeyDictionary[Connection, tuple[int, float]] = WeakKeyDictionary()

    def watch(self, tasks: Tasks) -> None:
        """Look until the tasks are stopped."""
        if not self._pool.behind_pooler:
            tasks.repeat(
                self.look,
                every_seconds=self._seconds / 2,
                name="silent-connections",
                log=_log,
                skipped_event="silent_connections_unknown",
            )

    async def look(self) -> None:
        """End the connections that have waited for too long, if Postgres works on nothing there.

        :raises DatabaseUnavailable: Postgres cannot be asked.
        """
        now = monotonic()
        before, self._waiting = self._waiting, WeakKeyDictionary()
        for connection in self._pool.in_use():
            if _awaits_an_answer(connection):
                wait, since = present_wait(connection), now
                if (earlier := before.get(connection)) is not None and earlier[0] == wait:
                    since = earlier[1]
                self._waiting[connection] = (wait, since)
        long = [
            one
            for one, (_, since) in self._waiting.items()
            if now - since >= self._seconds and _is_quiet(one, self._seconds)
        ]
        if long and (silent := await self._silent_among(long)):
            # A server that stood still may have what was sent, and begin with it only now.
            await asyncio.sleep(_AGAIN_SECONDS)
            for connection in await self._silent_among(silent):
                self._end(connection)

    async def _silent_among(self, waiting: Sequence[Connection]) -> list[Connection]:
        """Those that still wait, with nothing under way, and Postgres works on nothing for them."""
        waiting = [connection for connection in waiting if _awaits_an_answer(connection)]
        backends = [connection.info.backend_pid for connection in waiting]
        try:
            working = await asked(
                self._pool.login,
                lambda asking: _working_among(asking, backends),
                timeout_seconds=_ASK_SECONDS,
            )
        except (TimeoutError, psycopg.Error) as error:
            # What the waiting connections will get is not known.
            raise DatabaseUnavailable from error
        return [
            connection
            for connection, backend in zip(waiting, backends, strict=True)
            if backend not in working
            and _awaits_an_answer(connection)
            and present_wait(connection) == self._waiting[connection][0]
            and _is_quiet(connection, self._seconds)
        ]

    def _end(self, connection: Connection) -> None:
        self._count()
        _log.warning(
            "silent_connection_ended",
            backend=connection.info.backend_pid,
            waited_seconds=round(monotonic() - self._waiting[connection][1], 1),
        )
        shut(connection)


async def _working_among(asking: Connection, backends: list[int]) -> set[int]:
    cursor = await asking.execute(_WORKING, (backends,))
    return {row[0] for row in await cursor.fetchall()}


def _awaits_an_answer(connection: Connection) -> bool:
    return (
        not connection.closed
        and connection.pgconn.transaction_status == TransactionStatus.ACTIVE
        and present_wait(connection) > 0
    )


def _is_quiet(connection: Connection, seconds: float) -> bool:
    """Whether nothing has been sent or received for so long, and everything received was read.

    A long question, or the rest of a long answer, may be under way while the backend waits.
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as link:
        try:
            link.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return _last_data_seconds(link) >= seconds
        except OSError:
            return False
        return False


def _last_data_seconds(link: socket.socket) -> float:
    """How long ago data was sent or received; infinite where that is not known."""
    if _TCP_INFO is None or link.family == socket.AF_UNIX:
        return inf
    told = link.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _LAST_DATA.size)
    return min(_LAST_DATA.unpack(told)) / 1000 if len(told) == _LAST_DATA.size else inf
