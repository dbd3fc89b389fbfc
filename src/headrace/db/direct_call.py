"""Executes a statement without psycopg's cursor; for the statement that is sent most often.

A cursor looks up a dumper for each parameter, and looks the statement up among those that it has
prepared. That takes longer than sending the statement. Here the parameters are in binary form
already, and the result is one text. Errors are psycopg's.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import psycopg
from psycopg import generators
from psycopg.errors import InvalidSqlStatementName, error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from headrace.db.arrays import Column
from headrace.db.pool import Connection
from headrace.db.statements import Statement
from headrace.db.traffic import Traffic

#: The attribute of a connection that holds the names of the statements that it has prepared.
_PREPARED = "headrace_prepared"

#: A number names one statement only: the server may still have one that this module has forgotten.
_numbers = count()


async def fetch_text(
    connection: Connection, query: Statement, columns: Sequence[Column]
) -> str | None:
    """The only value of the only row of ``query``, with parameters ``$1`` and so on.

    It is a transaction of its own. The connection must be idle, in autocommit, and in no pipeline.
    The statement is prepared, if the connection prepares statements at all.

    :raises psycopg.Error: as a cursor does.
    """
    async with connection.lock:
        result = await connection.wait(_execute(connection, query, columns))
    value = result.get_value(0, 0)
    return None if value is None else value.decode()


@contextmanager
def blocking_sends(connection: Connection) -> Iterator[None]:
    """Within the block, a call that sends a statement returns when the whole statement is sent.

    Use it in a thread, for large statements. Otherwise libpq sends what the socket takes, and moves
    the rest to the front of its buffer. For 20 MB it does so a hundred times, each time with the
    interpreter's lock. A blocking call moves nothing, and does not hold the lock.
    """
    pgconn = connection.pgconn
    pgconn.nonblocking = 0
    try:
        yield
    finally:
        with suppress(psycopg.OperationalError):  # The connection is lost.
            pgconn.nonblocking = 1


def _execute(
    connection: Connection, query: Statement, columns: Sequence[Column]
) -> Generator[Any, Any, PGresult]:
    pgconn = connection.pgconn
    traffic: Traffic | None = getattr(connection, "traffic", None)
    if traffic is not None:
        traffic.note(connection)
    if connection.prepare_threshold is not None:
        return (yield from _execute_prepared(connection, query, columns))
    types = [column.oid for column in columns]
    text = query.as_bytes(psycopg.adapt.Transformer(connection))
    values = [column.dumped for column in columns]
    pgconn.send_query_params(text, values, types, [Format.BINARY] * len(values), Format.TEXT)
    return (yield from _result(connection))


def _execute_prepared(
    connection: Connection, query: Statement, columns: Sequence[Column]
) -> Generator[Any, Any, PGresult]:
    pgconn = connection.pgconn
    names: dict[Statement, bytes] = connection.__dict__.setdefault(_PREPARED, {})
    values = [column.dumped for column in columns]
    formats = [Format.BINARY] * len(values)
    if (name := names.get(query)) is not None:
        pgconn.send_query_prepared(name, values, formats, Format.TEXT)
        try:
            return (yield from _result(connection))
        except InvalidSqlStatementName:
            # After a rollback, psycopg sends DEALLOCATE ALL. Nothing has been executed yet.
            names.clear()
    name = f"headrace_{next(_numbers)}".encode()
    types = [column.oid for column in columns]
    text = query.as_bytes(psycopg.adapt.Transformer(connection))
    pgconn.send_prepare(name, text, types)
    yield from _result(connection)
    names[query] = name
    pgconn.send_query_prepared(name, values, formats, Format.TEXT)
    return (yield from _result(connection))


def _result(connection: Connection) -> Generator[Any, Any, PGresult]:
    result: PGresult
    (result,) = yield from generators.execute(connection.pgconn)
    if result.status == ExecStatus.FATAL_ERROR:
        raise error_from_result(result, connection.info.encoding)
    return result
