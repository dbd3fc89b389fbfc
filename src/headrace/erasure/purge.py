"""Erases what the database holds of an owner or of a tenant; ``decisions.py`` says what that is.

A purge that was stopped is begun again: it finds what is left. Servers go on meanwhile.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from headrace.database_settings import DatabaseSettings
from headrace.db.pool import Connection
from headrace.db.schema import ask
from headrace.db.statements import named_statements
from headrace.db.thread_configurations import forget_configurations, lock_threads_of_runs
from headrace.erasure.decisions import ERASED, OF_STORE
from headrace.erasure.namespaces import SharedNamespaces, shared_namespaces
from headrace.erasure.rows import Table, count_rows, erase_rows, tables_among
from headrace.erasure.store_scope import store_condition
from headrace.erasure.subject import Subject
from headrace.erasure.threads import ThreadErasure

_log = structlog.stdlib.get_logger("headrace.erasure")

#: A purge may take days.
_LONGEST_SECONDS = 30 * 86_400.0
#: A run looks each second whether it must stop, and may need some for its step.
STOP_SECONDS = 4.0
#: What was locked, or made meanwhile, is tried again so often.
_PASSES = 3
_PAGE = 500
_NO_RUN = UUID(int=0)

#: Tables whose rows go with those of another one, so that only the other one is worked on.
_BELONGING = frozenset(
    {
        "assistant_versions",
        "checkpoint_blobs",
        "checkpoint_writes",
        "checkpoints",
        "run_events",
        "store_index_paths",
        "store_vectors",
        "store_vectors_next",
    }
)

#: Reports go on counting what was used. Nothing in the row leads to the owner any more.
_ANONYMOUS = "owner = CASE WHEN owner = %(owner)s THEN '' ELSE owner END, thread_id = ''"


@dataclass(frozen=True, slots=True)
class Erasure:
    """What a purge has found, or has done.

    :ivar rows: for each table, the rows that were deleted; of ``run_usage``, those that keep their
        figures alone. Without ``done``: the rows that are there.
    :ivar left: the rows that are still there: somebody else held or made them.
    :ivar shared_threads: threads of other owners to which the owner has sent runs. Their
        checkpoints stay.
    :ivar stray_events: stored events of runs that were gone before.
    :ivar namespaces: of items that the tenant shares, as they were before; of a user only.
    """

    rows: dict[str, int]
    left: dict[str, int]
    shared_threads: int
    stray_events: int
    namespaces: SharedNamespaces
    done: bool


def purge(
    settings: DatabaseSettings,
    subject: Subject,
    *,
    dry_run: bool,
    stop_seconds: float = STOP_SECONDS,
) -> Erasure:
    """Erase, or only count. For commands: it starts an event loop.

    :raises StartupRefusal: HR301 the database cannot be reached, or the connection breaks; HR311
        the schema is behind, HR312 it is too new, HR318 the role may not use it.
    """

    async def work(connection: Connection) -> Erasure:
        one = _Purge(connection, subject, await tables_among(connection, list(ERASED)))
        return await one.counted() if dry_run else await one.erased(stop_seconds)

    return ask(settings, work, timeout_seconds=_LONGEST_SECONDS)


class _Purge:
    def __init__(self, connection: Connection, subject: Subject, tables: dict[str, Table]) -> None:
        self._connection = connection
        self._subject = subject
        self._tables = tables
        self._sql = named_statements("headrace.erasure", "erasure.sql")
        self._rows: Counter[str] = Counter()

    async def counted(self) -> Erasure:
        shared = await self._shared_threads()
        return Erasure(await self._count(), {}, shared, 0, await self._namespaces(), done=False)

    async def erased(self, stop_seconds: float) -> Erasure:
        began = time.monotonic()
        shared = await self._shared_threads()
        namespaces = await self._namespaces()
        before = await self._count()
        left, strays = before, 0
        for _ in range(_PASSES):
            await self._pass(stop_seconds)
            strays += await self._erase_stray_events()
            left = {name: rows for name, rows in (await self._count()).items() if rows}
            if not left:
                break
        for name in _BELONGING & before.keys():
            self._rows[name] = max(self._rows[name], before[name] - left.get(name, 0))
        rows = {name: self._rows[name] for name in before}
        # No name of an owner or of a tenant: logs are kept.
        _log.info(
            "rows_purged",
            of="tenant" if self._subject.owner is None else "user",
            rows=sum(rows.values()),
            left=sum(left.values()),
            seconds=round(time.monotonic() - began, 1),
            # A field whose name ends like that of a secret is masked: api_keys.
            **{f"{name}_rows": count for name, count in rows.items() if count},
        )
        return Erasure(rows, left, shared, strays, namespaces, done=True)

    async def _pass(self, stop_seconds: float) -> None:
        for name, table in self._tables.items():
            if name in _BELONGING:
                continue
            if name == "threads":
                threads = ThreadErasure(self._connection, self._subject, stop_seconds=stop_seconds)
                await threads.run()
                self._rows += threads.erased
            elif name == "runs":
                pass  # most go with their threads
            else:
                keeps = name == "run_usage" and self._subject.owner is not None
                condition, values = self._condition(name)
                self._rows[name] += await erase_rows(
                    self._connection, table, condition, values, instead=_ANONYMOUS if keeps else ""
                )
        await self._erase_runs_elsewhere(stop_seconds)

    async def _erase_runs_elsewhere(self, stop_seconds: float) -> None:
        """Erase runs on threads of other owners. A run that waits there is left."""
        running = [row[0] for row in await self._fetch("running_runs", {})]
        for run_id in running:
            await self._connection.execute(self._sql["interrupt_run"], {"run_id": run_id})
        deadline = asyncio.get_running_loop().time() + stop_seconds
        while running and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.1)
            running = [row[0] for row in await self._fetch("running_runs", {})]
        after = _NO_RUN
        while True:
            async with self._connection.transaction():
                values = {"after": after, "limit": _PAGE}
                page = [row[0] for row in await self._fetch("page_of_ended_runs", values)]
                if not page:
                    return
                threads = await lock_threads_of_runs(self._connection, page)
                found = [row[0] for row in await self._fetch("lock_ended_runs", {"run_ids": page})]
                await self._connection.execute(
                    self._sql["forget_metadata_of_runs"], {"run_ids": found}
                )
                for table, name in (
                    ("idempotency_keys", "erase_keys_of_runs"),
                    ("run_events", "erase_events_of_runs"),
                    ("webhook_deliveries", "erase_deliveries_of_runs"),
                    ("runs", "erase_these_runs"),
                ):
                    cursor = await self._connection.execute(self._sql[name], {"run_ids": found})
                    self._rows[table] += max(0, cursor.rowcount)
                await forget_configurations(self._connection, threads)
            after = page[-1]

    async def _erase_stray_events(self) -> int:
        """Events of runs that are gone say no longer whose they are."""
        erased, after = 0, _NO_RUN
        while True:
            rows = await self._fetch("page_of_eventful_runs", {"after": after, "limit": _PAGE})
            if not rows:
                return erased
            after = rows[-1][0]
            if gone := [run_id for run_id, is_gone in rows if is_gone]:
                cursor = await self._connection.execute(
                    self._sql["erase_events_of_runs"], {"run_ids": gone}
                )
                erased += max(0, cursor.rowcount)

    async def _count(self) -> dict[str, int]:
        counts = {}
        for name, table in self._tables.items():
            condition, values = self._condition(name)
            counts[name] = await count_rows(self._connection, table, condition, values)
        return counts

    async def _shared_threads(self) -> int:
        ((count,),) = await self._fetch("shared_threads", {})
        return int(count)

    async def _namespaces(self) -> SharedNamespaces:
        if self._subject.owner is None or "store" not in self._tables:
            return SharedNamespaces()
        return await shared_namespaces(self._connection, self._subject)

    def _condition(self, name: str) -> tuple[str, dict[str, Any]]:
        if name in OF_STORE:
            return store_condition(self._subject)
        return ERASED[name], self._subject.values

    async def _fetch(self, name: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        given = {**self._subject.values, **values}
        cursor = await self._connection.execute(self._sql[name], given)
        return await cursor.fetchall()
