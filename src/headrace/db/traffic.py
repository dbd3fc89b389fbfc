"""Counts the statements and transactions that a process sends over its pool.

psycopg has no hook for this. Each statement goes through one method of its cursor, each command of
its own (BEGIN, COMMIT, SAVEPOINT) through one method of the connection. Both are private: a test
fails if psycopg moves one.
"""

from typing import Any

from psycopg import AsyncConnection, AsyncCursor
from psycopg.pq import TransactionStatus
from psycopg.rows import Row

#: Marks a pipeline whose transaction is counted.
_COUNTED = "headrace_counted"


class Traffic:
    """What was sent since the process started. Checks of connections are in it.

    A flush with large values counts from a thread of its own. Two threads that count at one moment
    may count one; a lock would cost more than that is worth.

    :ivar statements: statements that were executed, BEGIN and COMMIT included.
    :ivar transactions: transactions that were begun, those of single statements included. A
        pipeline counts as one, also if it commits in between.
    """

    __slots__ = ("statements", "transactions")

    def __init__(self) -> None:
        self.statements = 0
        self.transactions = 0

    def note(self, connection: AsyncConnection[Any]) -> None:
        """Count a statement that is about to be sent, and the transaction that it begins."""
        self.statements += 1
        self.note_begin(connection)

    def note_begin(self, connection: AsyncConnection[Any]) -> None:
        """Count a transaction if what is about to be sent begins one."""
        if connection.pgconn.transaction_status != TransactionStatus.IDLE:
            return
        if (pipeline := connection._pipeline) is not None:
            # Until the pipeline ends, libpq may go on calling the connection idle.
            if _COUNTED in pipeline.__dict__:
                return
            pipeline.__dict__[_COUNTED] = True
        self.transactions += 1


class _Counted:
    """The part of a connection that counts its own commands."""

    traffic: Traffic

    def _exec_command(self, *args: Any, **kwargs: Any) -> Any:
        self.traffic.note(self)  # type: ignore[arg-type]
        return super()._exec_command(*args, **kwargs)  # type: ignore[misc]


def counted(kind: type[AsyncConnection[Any]], traffic: Traffic) -> type[AsyncConnection[Any]]:
    """``kind`` with connections that count into ``traffic``; use :class:`CountedCursor` on them."""
    return type("CountedConnection", (_Counted, kind), {"traffic": traffic})


class CountedCursor(AsyncCursor[Row]):
    """A cursor that counts what it sends; on a connection that does not count, a usual one."""

    def _execute_send(self, *args: Any, **kwargs: Any) -> None:
        if isinstance(self._conn, _Counted):
            self._conn.traffic.note(self._conn)
        super()._execute_send(*args, **kwargs)

    def _send_query_prepared(self, *args: Any, **kwargs: Any) -> None:
        if isinstance(self._conn, _Counted):
            self._conn.traffic.note(self._conn)
        super()._send_query_prepared(*args, **kwargs)

    def _send_prepare(self, *args: Any, **kwargs: Any) -> None:
        # In a pipeline, it begins the transaction of the statement that follows.
        if isinstance(self._conn, _Counted) and self._conn._pipeline is not None:
            self._conn.traffic.note_begin(self._conn)
        super()._send_prepare(*args, **kwargs)
