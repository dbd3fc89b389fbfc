"""Counts the statements and transactions that a process sends over its pool.

psycopg has no hook for this. Each statement goes through one method of its cursor, each command of
its own (BEGIN, COMMIT, SAVEPOINT) through one method of the connection. Both are private: a test
fails if psycopg moves one.
"""

from typing import Any

from psycopg import AsyncConnection, AsyncCursor
from psycopg.errors import InvalidSqlStatementName
from psycopg.pq import TransactionStatus
from psycopg.rows import Row

#: As libpq tells it. A member of the enumeration takes longer to look up.
_IDLE = int(TransactionStatus.IDLE)

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
        """Count a statement that is about to be sent, and the transaction that it may begin."""
        self.statements += 1
        if connection.pgconn.transaction_status == _IDLE:
            self.note_begin(connection)

    def note_begin(self, connection: AsyncConnection[Any]) -> None:
        """Count a transaction that begins on an idle connection."""
        if (pipeline := connection._pipeline) is not None:
            # Until the pipeline ends, libpq may go on calling the connection idle.
            if _COUNTED in pipeline.__dict__:
                return
            pipeline.__dict__[_COUNTED] = True
        self.transactions += 1


class _Counted:
    """The part of a connection that counts its own commands, and its waits for the server. It also
    notes that a prepared statement is lost: something between has told the server to forget it.
    """

    traffic: Traffic
    #: Whether the server does not know a statement that psycopg has prepared.
    statement_lost = False
    #: Waits so far, and whether the last of them goes on.
    waits = 0
    waits_now = False

    def _exec_command(self, *args: Any, **kwargs: Any) -> Any:
        self.traffic.note(self)  # type: ignore[arg-type]
        return super()._exec_command(*args, **kwargs)  # type: ignore[misc]

    async def wait(self, *args: Any, **kwargs: Any) -> Any:
        self.waits += 1
        self.waits_now = True
        try:
            return await super().wait(*args, **kwargs)  # type: ignore[misc]
        except InvalidSqlStatementName:
            self.statement_lost = True
            raise
        finally:
            self.waits_now = False


def counted(kind: type[AsyncConnection[Any]], traffic: Traffic) -> type[AsyncConnection[Any]]:
    """``kind`` with connections that count into ``traffic``; use :class:`CountedCursor` on them."""
    return type("CountedConnection", (_Counted, kind), {"traffic": traffic})


def has_lost_statement(connection: AsyncConnection[Any]) -> bool:
    """Whether the connection is of no more use: psycopg would use the statement again."""
    return isinstance(connection, _Counted) and connection.statement_lost


def present_wait(connection: AsyncConnection[Any]) -> int:
    """The number of the wait for the server that goes on; 0 if none does.

    Between the rows of a stream, or within a pipeline, the caller may do other work: it does not
    wait then, though libpq calls the connection active.
    """
    return connection.waits if isinstance(connection, _Counted) and connection.waits_now else 0


class CountedCursor(AsyncCursor[Row]):
    """A cursor that counts what it sends; on a connection that does not count, a usual one."""

    # The signatures are psycopg's, because passing any arguments on takes longer.

    def _execute_send(
        self, query: Any, *, force_extended: bool = False, binary: bool | None = None
    ) -> None:
        connection = self._conn
        if isinstance(connection, _Counted):
            connection.traffic.note(connection)
        super()._execute_send(query, force_extended=force_extended, binary=binary)

    def _send_query_prepared(self, name: bytes, pgq: Any, *, binary: bool | None = None) -> None:
        connection = self._conn
        if isinstance(connection, _Counted):
            connection.traffic.note(connection)
        super()._send_query_prepared(name, pgq, binary=binary)

    def _send_prepare(self, name: bytes, query: Any) -> None:
        connection = self._conn
        if (
            isinstance(connection, _Counted)
            and connection._pipeline is not None
            and connection.pgconn.transaction_status == _IDLE
        ):
            # It begins the transaction of the statement that follows.
            connection.traffic.note_begin(connection)
        super()._send_prepare(name, query)
