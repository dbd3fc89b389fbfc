"""Which rows a caller sees, as conditions of SQL. No statement has other conditions for that.

A row is in the scope of a caller if it is of its tenant, of its owner unless the caller sees all
owners, and has the metadata of its filter. A run is in scope if its thread is. System assistants
are in the scope of all callers.

A filter is a list of JSON: what the metadata must contain by ``@>``, which an index finds; and, if
there is such, the values that it must have as a whole. ``metadata || values`` is the metadata with
these values: it differs unless they are there.

In a file of statements, ``:visible(threads)`` stands for the condition on this entry of the
statement, with values of :func:`scope_values`. ``:visible(threads, given)`` takes the values from
columns of the entry ``given`` instead: ``tenant``, ``owner`` and ``filter``. ``:visible_run(runs)``
is the condition on an entry of ``runs``.

``:may_make(given)`` is the condition under which a caller makes the thread ``thread_id`` of the
entry ``given``: there are no checkpoints of this id without a thread, unless the column
``takes_strays`` says that they may be there (:attr:`Principal.takes_strays`).
"""

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB

from headrace.auth.principal import ANONYMOUS, SYSTEM_TENANT, Principal
from headrace.db.cron_tables import CronRow
from headrace.db.jsonb import dump_jsonb
from headrace.db.statements import Statement, named_statements
from headrace.db.tables import AssistantRow, RunRow, ThreadRow

#: A condition in a file of statements.
_CONDITION = re.compile(r":visible(_run)?\((\w+)(?:, (\w+))?\)")
_MAKES = re.compile(r":may_make\((\w+)\)")

_NAMED = ("%(scope_tenant)s", "%(scope_owner)s::text", "%(scope_filter)s::jsonb")
#: As SQLAlchemy's ``text`` writes them.
_BOUND = (":scope_tenant", "CAST(:scope_owner AS text)", "CAST(:scope_filter AS jsonb)")


def scope_values(principal: Principal) -> dict[str, Any]:
    """The values of the conditions."""
    return {
        "scope_tenant": principal.tenant,
        "scope_owner": principal.owner,
        "scope_filter": filter_text(principal),
    }


def filter_text(principal: Principal) -> str | None:
    """The caller's filter as JSON; None: it has none."""
    if not principal.filter:
        return None
    whole = _whole_values(principal)
    return dump_jsonb([principal.filter, whole] if whole else [principal.filter]).decode()


def _whole_values(principal: Principal) -> dict[str, Any]:
    return {key: principal.filter[key] for key in principal.equal}


@cache
def scoped_statements(package: str, filename: str) -> Mapping[str, Statement]:
    """As :func:`named_statements`, with the conditions written out."""
    found = named_statements(package, filename)
    return MappingProxyType({name: _written_out(text) for name, text in found.items()})


def _written_out(text: bytes) -> Statement:
    def condition(match: re.Match[str]) -> str:
        of_run, entry, given = match.groups()
        if of_run:
            return _run_condition(entry, _NAMED)
        if given:
            return _condition(entry, (f"{given}.tenant", f"{given}.owner", f"{given}.filter"))
        return _condition(entry, _NAMED)

    scoped = _CONDITION.sub(condition, text.decode())
    return Statement(_MAKES.sub(lambda match: _may_make(match[1]), scoped).encode())


def scope_texts(principal: Principal) -> list[str]:
    """The conditions that this caller needs on the only entry of a statement, one by one.

    For statements that are planned for each caller anew: an index may have some of them.
    """
    tenant, owner, wanted = _NAMED
    texts = [f"tenant = {tenant}"]
    if principal.owner is not None:
        texts.append(f"owner = {owner}")
        if principal.owner != ANONYMOUS.identity:
            # The planner need not know the owner to use the index on owners.
            texts.append(f"owner <> '{ANONYMOUS.identity}'")
    if principal.filter:
        whole = f" AND metadata = metadata || ({wanted} -> 1)" if principal.equal else ""
        texts.append(f"metadata @> ({wanted} -> 0){whole}")
    return texts


def visible_text(entry: str, *, with_system: bool = False) -> str:
    """The condition on an entry of a statement for SQLAlchemy's ``text``.

    :param with_system: rows of the server are in scope, too.
    """
    condition = _condition(entry, _BOUND)
    return f"({entry}.tenant = '{SYSTEM_TENANT}' OR {condition})" if with_system else condition


def visible_run_text(entry: str) -> str:
    """The condition on an entry of ``runs``, for SQLAlchemy's ``text``."""
    return _run_condition(entry, _BOUND)


def _condition(entry: str, values: tuple[str, str, str]) -> str:
    tenant, owner, wanted = values
    return (
        f"({entry}.tenant = {tenant} AND ({owner} IS NULL OR {entry}.owner = {owner})"
        f" AND ({wanted} IS NULL OR {entry}.metadata @> ({wanted} -> 0) AND ("
        f"{wanted} -> 1 IS NULL OR {entry}.metadata = {entry}.metadata || ({wanted} -> 1))))"
    )


def _run_condition(entry: str, values: tuple[str, str, str]) -> str:
    tenant, owner, wanted = values
    # For most callers the tenant decides. As a value, the subquery has one plan: the primary key.
    return (
        f"({entry}.tenant = {tenant} AND ({owner} IS NULL AND {wanted} IS NULL OR ("  # noqa: S608 - of constants
        "SELECT true FROM threads AS scope_thread"
        f" WHERE scope_thread.thread_id = {entry}.thread_id"
        f" AND {_condition('scope_thread', values)} LIMIT 1)))"
    )


def _may_make(entry: str) -> str:
    # A thread that is there decides as usual. While it is being deleted, its checkpoints are no
    # strays: they go with it.
    return (
        f"({entry}.takes_strays"  # noqa: S608 - of constants
        f" OR NOT EXISTS (SELECT FROM checkpoints WHERE checkpoints.thread_id = {entry}.thread_id)"
        f" OR EXISTS (SELECT FROM threads WHERE threads.thread_id = {entry}.thread_id))"
    )


def visible_thread(principal: Principal) -> ColumnElement[bool]:
    """The condition on threads."""
    return _within(ThreadRow, ThreadRow.tenant, principal)


def visible_run(principal: Principal) -> ColumnElement[bool]:
    """The condition on runs."""
    own = RunRow.tenant == principal.tenant
    if not principal.restricted:
        return own
    thread = (
        select(ThreadRow.thread_id)
        .where(ThreadRow.thread_id == RunRow.thread_id, visible_thread(principal))
        .correlate(RunRow)
        .limit(1)
        .scalar_subquery()
    )
    return and_(own, thread.is_not(None))


def visible_cron(principal: Principal) -> ColumnElement[bool]:
    """The condition on crons, for statements about one cron."""
    return _within(CronRow, _unindexed(CronRow), principal)


def own_assistant(principal: Principal) -> ColumnElement[bool]:
    """The condition on assistants that the caller may change, for statements about one."""
    return _within(AssistantRow, _unindexed(AssistantRow), principal)


def visible_assistant(principal: Principal) -> ColumnElement[bool]:
    """The condition on assistants that the caller may read, for statements about one."""
    return or_(_unindexed(AssistantRow) == SYSTEM_TENANT, own_assistant(principal))


def _unindexed(row: type[AssistantRow | CronRow]) -> ColumnElement[str]:
    """The tenant, where no index is used for it.

    If Postgres believes that the tenant has no rows, its index looks as good as the key.
    """
    return func.coalesce(row.tenant, "")


def _within(
    row: type[ThreadRow | AssistantRow | CronRow], tenant: Any, principal: Principal
) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [tenant == principal.tenant]
    if principal.owner is not None:
        conditions.append(row.owner == principal.owner)
    if principal.filter:
        conditions.append(row.metadata_.op("@>")(sql_cast(dict(principal.filter), JSONB)))
    if principal.equal:
        whole = sql_cast(_whole_values(principal), JSONB)
        conditions.append(row.metadata_ == row.metadata_.op("||", return_type=JSONB())(whole))
    return and_(*conditions)
