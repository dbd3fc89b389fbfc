"""Lists the shared namespaces that an erasure of a user deletes, and those that it leaves.

Nobody can tell from a label alone whose an item is. So an operator sees these before and after.
"""

from dataclasses import dataclass, field

from headrace.db.pool import Connection
from headrace.db.statements import statement
from headrace.erasure.store_scope import (
    LABELS,
    Condition,
    doubtful_condition,
    shared_condition,
)
from headrace.erasure.subject import Subject

#: As many of each kind are listed.
_MOST = 20


@dataclass(frozen=True, slots=True)
class NamespaceList:
    """
    :ivar listed: labels with dots between them, and the number of items.
    :ivar more: how many more namespaces there are.
    """

    listed: tuple[tuple[str, int], ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class SharedNamespaces:
    """
    :ivar of_user: their items are erased.
    :ivar doubtful: a label is the user's, at a place that no pattern names. Their items stay.
    """

    of_user: NamespaceList = field(default_factory=NamespaceList)
    doubtful: NamespaceList = field(default_factory=NamespaceList)


async def shared_namespaces(connection: Connection, subject: Subject) -> SharedNamespaces:
    """Read them, for a subject that is a user."""
    return SharedNamespaces(
        await _list(connection, shared_condition(subject)),
        await _list(connection, doubtful_condition(subject)),
    )


async def _list(connection: Connection, wanted: Condition) -> NamespaceList:
    condition, values = wanted
    query = statement(
        f"SELECT {LABELS}, count(*), count(*) OVER () FROM store WHERE {condition}"  # noqa: S608
        f" GROUP BY prefix ORDER BY prefix LIMIT {_MOST}"
    )
    rows = await (await connection.execute(query, values)).fetchall()
    return NamespaceList(
        tuple((labels, int(items)) for labels, items, _ in rows),
        int(rows[0][2]) - len(rows) if rows else 0,
    )
