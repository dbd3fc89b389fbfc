"""The threads of callers that do not see all threads of their tenant: a run is made on a thread
that the caller sees, or not at all.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from psycopg import AsyncCursor

from headrace.auth.filters import with_filter
from headrace.auth.row_scope import filter_text
from headrace.db.arrays import Column, Jsonb, Text, Uuid
from headrace.db.jsonb import dump_jsonb
from headrace.db.pool import Connection
from headrace.errors import HeadraceError, ThreadNotFound
from headrace.ids import thread_id_for
from headrace.queue.rows import RunRequest


class ThreadLocked(HeadraceError):
    """Another transaction has locked the thread: it is not known yet whether a run has it."""


class ScopeCheck:
    """The threads of some requests. Without a restricted caller, no statement is sent."""

    def __init__(self, sql: Mapping[str, bytes], requests: Sequence[RunRequest]) -> None:
        self._requests = {one.run_id: one for one in requests if needs_check(one)}
        self._sql = sql
        self._found: AsyncCursor[tuple[Any, ...]] | None = None
        self.present = bool(self._requests)

    @classmethod
    async def lock(
        cls, connection: Connection, requests: Sequence[RunRequest], sql: Mapping[str, bytes]
    ) -> "ScopeCheck":
        """Hold the threads that the callers see. Do this after keys and crons are locked."""
        check = cls(sql, requests)
        if check.present:
            values = _columns(list(check._requests.values()))
            check._found = await connection.execute(sql["lock_scope"], values)
        return check

    async def unseen(self) -> dict[UUID, Exception]:
        """The runs that were not made because other callers have their threads."""
        row = await self._found.fetchone() if self._found is not None else None
        if row is None:
            return {}
        return {
            run_id: ThreadNotFound(f"Thread with ID {self._requests[run_id].thread_id} not found")
            for run_id in map(UUID, orjson.loads(row[0]))
        }


def needs_check(request: RunRequest) -> bool:
    """Whether the thread may be one that the caller does not see.

    A thread that the server makes for this run alone is the caller's; only its metadata must be
    those that the caller sees.
    """
    principal = request.principal
    if not principal.restricted:
        return False
    return bool(principal.filter) or request.thread_id != str(thread_id_for(request.run_id))


def takes_strays(request: RunRequest) -> bool:
    """Whether the thread that is made for it may have checkpoints already. None has those of an id
    that the server has made.
    """
    return request.principal.takes_strays or request.thread_id == str(thread_id_for(request.run_id))


def filters_of(requests: Sequence[RunRequest]) -> Jsonb:
    """The filters of their callers."""
    texts = [filter_text(one.principal) for one in requests]
    return Jsonb([None if text is None else text.encode() for text in texts])


def makes_thread_first(request: RunRequest) -> bool:
    """Whether the thread is made before the run: a start makes threads without more metadata."""
    return request.create_thread and (needs_check(request) or bool(request.thread_metadata))


def metadata_of_new(requests: Sequence[RunRequest]) -> Jsonb:
    """The metadata of threads that are made for runs: their callers' filters find them."""
    found = [with_filter(one.thread_metadata, one.principal) for one in requests]
    return Jsonb([dump_jsonb(one) if one else None for one in found])


def no_thread(thread_id: str) -> ThreadNotFound:
    """The error for a run on a thread that is not there."""
    return ThreadNotFound(
        f'Thread with ID {thread_id} not found. Create it, or send if_not_exists: "create".'
    )


def _columns(requests: Sequence[RunRequest]) -> dict[str, Column]:
    owners = [one.principal.owner for one in requests]
    return {
        "scope_run_ids": Uuid([one.run_id for one in requests]),
        "scope_thread_ids": Text([one.thread_id.encode() for one in requests]),
        "scope_tenants": Text([one.principal.tenant.encode() for one in requests]),
        "scope_owners": Text([None if one is None else one.encode() for one in owners]),
        "scope_filters": filters_of(requests),
    }
