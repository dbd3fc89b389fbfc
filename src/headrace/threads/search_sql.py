"""The statements of thread lists: which way leads to a page soonest.

Newest first is an index. So is a status, through ``halted_status``, except that busy threads are
found through their unfinished runs. Metadata has two ways: what many threads have is found among
the newest soon; what few have is found through the GIN index, and sorted. Which of both a filter is
no statistics tell well enough, so the newest are looked through first, up to a bound. Deep pages
skip ids, in an index alone where one knows enough.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.auth.principal import Principal
from headrace.db.tables import ThreadRow
from headrace.threads.schemas import SortBy, ThreadFilter

#: Pages that end further down are deep: nothing is looked through first.
NEAR = 1000

#: Of the newest threads so many are looked through for each one wanted, between two bounds. What is
#: rarer than that is read and sorted as a whole in no longer time.
_LOOKED_THROUGH = 50
_AT_LEAST, _AT_MOST = 2000, 10_000

COLUMNS = tuple(column.name for column in ThreadRow.__table__.columns)
_ALL = ", ".join(f"threads.{name}" for name in COLUMNS)

#: Keys of metadata that the index of the newest has beside its own: what front ends filter on.
_INCLUDED = {"graph_id", "assistant_id"}
_LONGEST_LISTED = 255

_UNFINISHED = """(
  SELECT thread_id FROM runs WHERE status = 'running'
  UNION
  SELECT thread_id FROM runs WHERE status = 'pending'
)"""

#: What a thread without a time of its state sorts by.
_SORTED_BY: Mapping[SortBy, str] = {
    "thread_id": "thread_id",
    "status": "status",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "state_updated_at": "coalesce(state_updated_at, created_at)",
}


@dataclass(frozen=True, slots=True)
class Order:
    """By what, and in which direction; threads alike in that by their id, in the other one."""

    by: SortBy = "created_at"
    descending: bool = True

    @property
    def key(self) -> str:
        return _SORTED_BY[self.by]

    @property
    def clause(self) -> str:
        down, up = ("DESC", "ASC") if self.descending else ("ASC", "DESC")
        if self.by == "thread_id":
            return f"thread_id {down}"
        return f"{self.key} {down}, thread_id {up}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The conditions that SQL can judge, and their parameters."""

    conditions: tuple[str, ...]
    values: Mapping[str, Any]
    #: Some threads or none match, and no index has them in order.
    scattered: bool
    #: Busy ones are few, and none of the newest may be.
    busy: bool = False
    #: The planner does not see by itself that what is null is in the order of the rest.
    idle: bool = False
    #: An index has them in order.
    ordered: bool = True

    @property
    def where(self) -> str:
        return " AND ".join(self.conditions)


def wanted(
    principal: Principal, which: ThreadFilter, *, with_state: bool = False, deep: bool = False
) -> Wanted:
    """
    :param with_state: only threads that have had a run.
    :param deep: many ids are skipped, in an index that knows no status.
    """
    conditions = ["tenant = %(tenant)s", "NOT temporary"]
    values: dict[str, Any] = {"tenant": principal.tenant}
    if which.ids is not None:
        conditions.append("thread_id = ANY (%(ids)s::text[])")
        values["ids"] = which.ids
    included = deep and which.ids is None and set(which.metadata or ()) <= _INCLUDED
    if which.metadata and included and all(map(_is_listed, which.metadata.values())):
        conditions += [f"{name} = %({name})s" for name in which.metadata]
        values |= which.metadata
    elif which.metadata:
        conditions.append("metadata @> %(metadata)s::jsonb")
        values["metadata"] = which.metadata
    if which.status == "idle":
        conditions.append("halted_status IS NULL")
        conditions.append("status = 'idle'" if not deep else f"thread_id NOT IN {_UNFINISHED}")
    elif which.status == "busy":
        conditions.append("halted_status IS NULL AND status = 'busy'")
    elif which.status is not None:
        conditions.append("halted_status = %(status)s")
        values["status"] = which.status
    if with_state:
        conditions.append("state_updated_at IS NOT NULL")
    return Wanted(
        tuple(conditions),
        values,
        scattered="metadata" in values and which.ids is None,
        busy=which.status == "busy" and which.ids is None,
        idle=which.status == "idle" and which.ids is None,
        ordered=which.ids is None and "metadata" not in values and which.status != "busy",
    )


def _is_listed(value: Any) -> bool:
    """Whether the column of that name holds it wherever metadata does (migration 0007)."""
    return isinstance(value, str) and len(value) <= _LONGEST_LISTED


def planning(
    what: Wanted, order: Order, *, deep: bool = False, statement_timeout_ms: int = 10_000
) -> str:
    """What the planner is told before a page, for the transaction alone.

    Compiling a deep page would take longer than reading it, and sorting a large part of the table
    longer than skipping it in order. The unfinished runs of a long queue fit into one hash table.
    """
    settings = {"jit": "off", "statement_timeout": f"{statement_timeout_ms}ms"}
    if deep:
        settings["work_mem"] = "64MB"
    if what.ordered and order.by == "created_at":
        settings["enable_sort"] = "off"
    calls = (f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    return f"SELECT {', '.join(calls)}"


def count(what: Wanted) -> str:
    """How many there are."""
    return f"SELECT count(*) FROM threads WHERE {_found(what)}"  # noqa: S608 - of constants


def near_page(what: Wanted, order: Order, *, end: int) -> str:
    """The page, if it lies among the newest threads (or oldest, upwards).

    :param end: where the page ends.
    """
    looked_through = min(max(end * _LOOKED_THROUGH, _AT_LEAST), _AT_MOST)
    return f"""
        SELECT {_ALL} FROM (
          SELECT * FROM threads WHERE tenant = %(tenant)s AND NOT temporary
          ORDER BY {order.clause} LIMIT {looked_through}
        ) AS threads
        WHERE {what.where}
        ORDER BY {order.clause} LIMIT %(limit)s OFFSET %(offset)s"""  # noqa: S608 - of constants


def page(what: Wanted, order: Order, *, gathered: bool) -> str:
    """The page, wherever it lies; ids are skipped in an index where one has them in order.

    :param gathered: find all that match before sorting them.
    """
    found = f"SELECT thread_id, {order.key} AS key FROM threads WHERE {_found(what)}"  # noqa: S608
    if gathered:
        # Not pulled up: what orders the page must not choose how it is found.
        found = f"SELECT thread_id, key FROM ({found} OFFSET 0) AS found"  # noqa: S608
        ordering = order.clause.replace(order.key, "key") if order.by != "thread_id" else ""
        ordering = ordering or order.clause
    elif what.idle and not what.scattered and order.by == "created_at":
        ordering = f"halted_status {'ASC' if order.descending else 'DESC'}, {order.clause}"
    else:
        ordering = order.clause
    return f"""
        SELECT {_ALL} FROM (
          {found}
          ORDER BY {ordering} LIMIT %(limit)s OFFSET %(offset)s
        ) AS page JOIN threads USING (thread_id)
        ORDER BY {order.clause}"""  # noqa: S608 - of constants


def _found(what: Wanted) -> str:
    return f"{what.where} AND thread_id IN {_UNFINISHED}" if what.busy else what.where
