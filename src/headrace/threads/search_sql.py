"""The statements of thread lists. Each takes the fastest way to its page.

One index has threads newest first; another has them by status (``halted_status``). Busy threads are
found through their unfinished runs. For a filter on metadata there are two cases. If many threads
match, the page is among the newest threads. If few match, the GIN index finds them, and Postgres
sorts them. The planner's statistics do not tell the two cases apart well enough. So a bounded
number of the newest threads is looked through first. A deep page skips ids, by an index-only scan
if an index has all columns of the filter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.auth.principal import Principal
from headrace.auth.row_scope import scope_texts, scope_values
from headrace.threads.rows import COLUMNS
from headrace.threads.schemas import SortBy, ThreadFilter

#: A page that ends after this row is deep: the newest threads are not looked through first.
NEAR = 1000

#: For each wanted thread, so many of the newest threads are looked through, within two bounds. If
#: the matching threads are rarer, it takes no longer to read and sort them all.
_LOOKED_THROUGH = 50
_AT_LEAST, _AT_MOST = 2000, 10_000

_ALL = ", ".join(f"threads.{name}" for name in COLUMNS)

#: Keys of metadata that the index with the newest threads includes: front ends filter on them.
_INCLUDED = {"graph_id", "assistant_id"}
_LONGEST_LISTED = 255

_UNFINISHED = """(
  SELECT thread_id FROM runs WHERE status = 'running'
  UNION
  SELECT thread_id FROM runs WHERE status = 'pending'
)"""

#: The expression to sort by; a thread that has had no run has no ``state_updated_at``.
_SORTED_BY: Mapping[SortBy, str] = {
    "thread_id": "thread_id",
    "status": "status",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "state_updated_at": "coalesce(state_updated_at, created_at)",
}


@dataclass(frozen=True, slots=True)
class Order:
    """The field and direction to sort by. Threads with equal fields: by id, the other way round."""

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
    #: The conditions on tenant and owner, which an index has.
    own: str
    #: An unknown share of threads matches, and no index has them in order.
    scattered: bool
    #: Busy threads are wanted: they are few, and perhaps none of the newest threads is busy.
    busy: bool = False
    #: Idle threads are wanted. Their ``halted_status`` is null, and the planner does not know that
    #: the index has such rows in order.
    idle: bool = False
    #: An index has the threads in order.
    ordered: bool = True

    @property
    def where(self) -> str:
        return " AND ".join(self.conditions)


def wanted(
    principal: Principal, which: ThreadFilter, *, with_state: bool = False, deep: bool = False
) -> Wanted:
    """The conditions for a filter.

    :param with_state: only threads that have had a run.
    :param deep: the page skips many ids, in an index that has no ``status``.
    """
    scope = scope_texts(principal)
    conditions = [*scope, "NOT temporary"]
    values = scope_values(principal)
    if which.ids is not None:
        conditions.append("thread_id = ANY (%(ids)s::text[])")
        values["ids"] = which.ids
    included = deep and which.ids is None and set(which.metadata or ()) <= _INCLUDED
    included = included and not principal.filter
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
    scattered = "metadata" in values or bool(principal.filter)
    return Wanted(
        tuple(conditions),
        values,
        " AND ".join(one for one in scope if "metadata @>" not in one),
        scattered=scattered and which.ids is None,
        busy=which.status == "busy" and which.ids is None,
        idle=which.status == "idle" and which.ids is None,
        ordered=which.ids is None and not scattered and which.status != "busy",
    )


def _is_listed(value: Any) -> bool:
    """Whether the key's own column (migration 0007) has each such value of the metadata."""
    return isinstance(value, str) and len(value) <= _LONGEST_LISTED


def planning(
    what: Wanted,
    order: Order,
    *,
    deep: bool = False,
    near: bool = False,
    statement_timeout_ms: int = 10_000,
) -> str:
    """The statement that sets the planner for one transaction.

    To compile the query of a deep page (JIT) would take longer than to read the page. To sort a
    large part of the table would take longer than to skip it in order. With more ``work_mem``, the
    unfinished runs of a long queue are in one hash table. What is found by an index must not be
    sought in the whole table because Postgres knows nothing about the table yet. Postgres plans for
    the limit that is asked for: where a database sets ``plan_cache_mode`` to generic plans, it
    would plan for a tenth of the table, and join with all of it.

    :param near: for :func:`near_page`: it reads an index in its order.
    """
    settings = {
        "jit": "off",
        "plan_cache_mode": "force_custom_plan",
        "statement_timeout": f"{statement_timeout_ms}ms",
    }
    if deep:
        settings["work_mem"] = "64MB"
    if not deep and (not what.ordered or order.by == "created_at"):
        settings["enable_seqscan"] = "off"
    if near or (what.ordered and order.by == "created_at"):
        settings["enable_sort"] = "off"
    calls = (f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    return f"SELECT {', '.join(calls)}"


def count(what: Wanted) -> str:
    """The statement that counts threads."""
    return f"SELECT count(*) FROM threads WHERE {_found(what)}"  # noqa: S608 - of constants


def near_page(what: Wanted, order: Order, *, end: int) -> str:
    """The statement for a page among the newest threads (the oldest, if these come first).

    :param end: where the page ends.
    """
    looked_through = min(max(end * _LOOKED_THROUGH, _AT_LEAST), _AT_MOST)
    return f"""
        SELECT {_ALL} FROM (
          SELECT * FROM threads WHERE {what.own} AND NOT temporary
          ORDER BY {order.clause} LIMIT {looked_through}
        ) AS threads
        WHERE {what.where}
        ORDER BY {order.clause} LIMIT %(limit)s OFFSET %(offset)s"""  # noqa: S608 - of constants


def page(what: Wanted, order: Order, *, gathered: bool) -> str:
    """The statement for any page. If an index has the threads in order, it skips ids there.

    :param gathered: find all matching threads before sorting them.
    """
    source = _source(what, gathered=gathered)
    found = f"SELECT thread_id, {order.key} AS key FROM {source} WHERE {_found(what)}"  # noqa: S608
    if gathered:
        # OFFSET 0 keeps the subquery apart: the order must not decide how threads are found.
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


def _source(what: Wanted, *, gathered: bool) -> str:
    """Where a page looks for its threads: in the rows that one index gives.

    OFFSET 0 keeps the other conditions out: Postgres would prefer an index by tenant if it believes
    that the tenant has few threads.
    """
    if "ids" in what.values:
        inner = "SELECT * FROM threads WHERE thread_id = ANY (%(ids)s::text[])"
    elif gathered and what.busy:
        inner = (
            f"SELECT one.* FROM {_UNFINISHED} AS unfinished CROSS JOIN LATERAL (SELECT * FROM"  # noqa: S608 - of constants
            " threads WHERE threads.thread_id = unfinished.thread_id OFFSET 0) AS one"
        )
    elif gathered and what.scattered:
        contained = " AND ".join(one for one in what.conditions if "metadata @>" in one)
        inner = f"SELECT * FROM threads WHERE {contained} AND NOT temporary"  # noqa: S608 - of constants
    else:
        return "threads"
    return f"({inner} OFFSET 0) AS threads"


def _found(what: Wanted) -> str:
    return f"{what.where} AND thread_id IN {_UNFINISHED}" if what.busy else what.where
