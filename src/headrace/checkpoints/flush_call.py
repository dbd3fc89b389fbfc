"""The call of the function that does a whole flush, and its answer (``db/flush_2.sql``).

Only arguments of what a batch contains are given; the others are NULL.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from psycopg import AsyncRawCursor

from headrace.db.arrays import Column
from headrace.db.direct_call import fetch_text
from headrace.db.pool import Connection
from headrace.db.statements import Statement, statement
from headrace.db.traffic import CountedCursor

#: By name of the function's parameters.
Arguments = Mapping[str, Column]

#: The function raises this if the transaction has a stricter isolation level than READ COMMITTED.
WRONG_ISOLATION = "HR001"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the function has returned.

    :ivar lost: the numbers of the tokens whose runs this process has lost.
    :ivar ends: for each end of a run: its status, and who must learn of it.
    :ivar starts: for each start of a run: whether it has started, or why not.
    """

    lost: frozenset[int] = frozenset()
    ends: list[list[Any]] | tuple[()] = ()
    starts: list[list[Any]] | tuple[()] = ()


#: The answer to a flush of rows of runs that are all executed by this process.
_NOTHING_LOST = Answer()


class FlushCursor(AsyncRawCursor[tuple[Any, ...]], CountedCursor[tuple[Any, ...]]):
    """A cursor for statements with ``$1``: psycopg does not search their text for parameters."""


async def flush_alone(connection: Connection, arguments: Arguments) -> Answer:
    """Call the function, as a transaction of its own."""
    call = _call(tuple(arguments))
    return answer_of_text(await fetch_text(connection, call, tuple(arguments.values())))


async def call_flush(connection: Connection, arguments: Arguments) -> FlushCursor:
    """Call the function in an open transaction. Give the cursor to :func:`fetch_answer`."""
    cursor = FlushCursor(connection)
    await cursor.execute(_call(tuple(arguments)), tuple(arguments.values()), prepare=True)
    return cursor


async def fetch_answer(cursor: FlushCursor) -> Answer:
    """The answer of the function."""
    row = await cursor.fetchone()
    return answer_of_text(row[0] if row is not None else None)


def answer_of_text(text: str | None) -> Answer:
    """The answer from its JSON; None: nothing is lost, and nothing else was asked."""
    if text is None:
        return _NOTHING_LOST
    found = orjson.loads(text)
    return Answer(frozenset(found["lost"] or ()), found["ends"] or (), found["starts"] or ())


@cache
def _call(names: tuple[str, ...]) -> Statement:
    given = ", ".join(f"{name} => ${number}" for number, name in enumerate(names, 1))
    return statement(f"SELECT headrace_flush_2({given})")
