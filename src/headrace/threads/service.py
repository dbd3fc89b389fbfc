"""Rules of threads."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from headrace.auth.principal import DEFAULT_TENANT, Principal
from headrace.checkpoints.answer_memory import Reading
from headrace.errors import (
    AnswerTooLarge,
    InvalidRequest,
    RequestError,
    StrayCheckpoints,
    ThreadExists,
    ThreadNotFound,
)
from headrace.idempotency.schemas import RequestKey
from headrace.idempotency.service import IdempotencyService
from headrace.ids import canonical_uuid, uuid7
from headrace.request_limits import RequestLimits
from headrace.request_settings import RequestSettings
from headrace.states.reader import EMPTY, StateReader
from headrace.threads.copies import ThreadCopies
from headrace.threads.repository import ThreadRepository, found
from headrace.threads.rows import StoredThread
from headrace.threads.schemas import ThreadCreate, ThreadPatch, thread_json
from headrace.threads.updates import StateUpdates

_log = structlog.stdlib.get_logger("headrace.threads")

#: Stored metadata may be this many times larger than the metadata of one request: Postgres measures
#: it with spaces, and each request merges more into it.
_WHOLE = 2


class ThreadService:
    def __init__(
        self,
        repository: ThreadRepository,
        states: StateReader,
        keys: IdempotencyService,
        updates: StateUpdates,
        copies: ThreadCopies,
        limits: RequestLimits | None = None,
    ) -> None:
        self._repository = repository
        self._states = states
        self._keys = keys
        self._updates = updates
        self._copies = copies
        self._limits = limits or RequestLimits(RequestSettings())

    async def create(
        self,
        principal: Principal,
        body: ThreadCreate,
        key: RequestKey | None = None,
        *,
        reader: Principal | None = None,
    ) -> StoredThread:
        """A new thread, or with ``if_exists=do_nothing`` the existing one.

        :param reader: the caller as it may read an existing thread; None: as it may create one.
        :param key: a retry with this key gets the thread that the first try has made.
        :raises ThreadExists: a thread has this id already.
        :raises StrayCheckpoints: as :meth:`refuse_strays`.
        :raises RequestError: as :meth:`StateUpdates.create`, for a thread with supersteps.
        """
        if key is None:
            return await self._create(principal, body, reader)
        reserved = await self._keys.reserve(principal, key)
        thread_id = body.thread_id or reserved.resource_id
        if reserved.made:
            return await self.get(reader or principal, str(thread_id))
        changes: dict[str, Any] = {"thread_id": thread_id}
        if reserved.resumed:
            changes["if_exists"] = "do_nothing"
        async with self._keys.making(principal, key):
            row = await self._create(principal, body.model_copy(update=changes), reader)
        await self._keys.confirm(principal, key, row.thread_id)
        return row

    async def _create(
        self, principal: Principal, body: ThreadCreate, reader: Principal | None
    ) -> StoredThread:
        self._limits.metadata(body.metadata)
        self._limits.supersteps(sum(len(step.updates) for step in body.supersteps or ()))
        if not body.supersteps and body.thread_id is None:
            return await self._repository.create(principal, body.metadata or {}, body.ttl)
        thread_id = str(body.thread_id or uuid7())
        row = None
        if not body.supersteps:
            row = await self._repository.create_if_absent(
                principal, thread_id, body.metadata or {}, body.ttl
            )
        elif await self._updates.create(principal, thread_id, body):
            row = await self._repository.get_made(principal, thread_id)
        if row is None and body.if_exists == "do_nothing":
            row = await self._repository.get(reader or principal, thread_id)
        if row is None:
            await self.refuse_strays(principal, thread_id)
            raise ThreadExists(f"Thread with ID {thread_id} already exists")
        return row

    async def refuse_strays(self, principal: Principal, thread_id: str) -> None:
        """Tell why a thread with an id that the caller has named was not made.

        :raises StrayCheckpoints: there are checkpoints of this id, which may be another caller's.
        """
        if not principal.takes_strays and await self._repository.has_only_checkpoints(thread_id):
            _log.warning("stray_checkpoints_refused", thread_id=thread_id)
            raise StrayCheckpoints

    async def copy(
        self,
        principal: Principal,
        thread_id: str,
        key: RequestKey | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> StoredThread:
        """A new thread with all checkpoints of another.

        :param metadata: what the copy has beside the metadata of the other.
        :param key: a retry with this key gets the copy that the first try has made.
        :raises Conflict: the caller may see no such thread.
        """
        if key is None:
            return await self._copies.copy(principal, thread_id, metadata=metadata)
        reserved = await self._keys.reserve(principal, key)
        target = str(reserved.resource_id)
        if reserved.made:
            return await self.get(principal, target)
        async with self._keys.making(principal, key):
            row = await self._repository.get(principal, target) if reserved.resumed else None
            row = row or await self._copies.copy(principal, thread_id, target, metadata=metadata)
        await self._keys.confirm(principal, key, target)
        return row

    async def stored_id(self, principal: Principal, given: str) -> str:
        """The id that a thread is stored under. The client may spell a UUID in another way.

        It is the canonical spelling of the UUID, unless a thread was adopted under the given one.
        """
        return (await self.stored_ids(principal, [given]))[0]

    async def stored_ids(self, principal: Principal, given: Sequence[str]) -> list[str]:
        """As :meth:`stored_id`, for several ids. Only ids in another spelling cost a query."""
        canonical = {one: canonical_uuid(one) or one for one in given}
        unusual = [one for one, usual in canonical.items() if one != usual]
        if unusual:
            existing = await self._repository.existing_ids(principal, unusual)
            canonical.update((one, one) for one in existing)
        return [canonical[one] for one in given]

    async def get(self, principal: Principal, thread_id: str) -> StoredThread:
        """
        :raises ThreadNotFound: the caller may see no such thread.
        :raises InvalidRequest: the caller may see no such thread, and the id is no UUID.
        """
        row = await self._repository.get(principal, thread_id)
        if (
            row is None
            and _may_adopt(principal)
            and (await self._repository.has_only_checkpoints(thread_id))
        ):
            raise _not_adopted(thread_id)
        return found(thread_id, row)

    async def update(self, principal: Principal, thread_id: str, body: ThreadPatch) -> StoredThread:
        """Merge metadata into the thread, and set its time to live if the body has one.

        :raises ThreadNotFound: the caller may see no such thread.
        :raises InvalidRequest: the metadata is or becomes too large; or there is no such thread,
            and the id is no UUID.
        """
        self._limits.metadata(body.metadata)
        max_bytes = _WHOLE * self._limits.settings.max_metadata_bytes
        row = await self._repository.update(
            principal, thread_id, body.metadata or {}, body.ttl, max_bytes=max_bytes
        )
        if row is None and await self._repository.get(principal, thread_id) is not None:
            raise InvalidRequest(
                f"metadata: with this the thread's would be longer than {max_bytes} bytes, twice"
                " what one request may send (setting requests.max_metadata_bytes)"
            )
        return found(thread_id, row)

    async def shown(self, row: StoredThread, reading: Reading) -> dict[str, Any]:
        """The thread with its present values, as clients see it.

        :raises AnswersFull: there is no memory for the values now.
        """
        try:
            return thread_json(row, await self.values(row, reading))
        except AnswerTooLarge as refusal:
            return thread_json(row, None, values_omitted=refusal.message)

    def reading(self) -> Reading:
        """Begin an answer with one thread. The caller releases its memory."""
        return self._states.memory.reading()

    async def values(self, row: StoredThread, reading: Reading | None = None) -> Any:
        """The thread's present values; None before its first run.

        :raises AnswerTooLarge, AnswersFull: as :meth:`Reading.admit`.
        """
        if row.state_updated_at is None:
            return None
        state = await self._states.read(
            row.thread_id,
            row.metadata.get("graph_id"),
            configurable=row.config.get("configurable"),
            reading=reading,
        )
        return None if state is EMPTY else state.values


def _may_adopt(principal: Principal) -> bool:
    """Whether a thread that ``headrace db adopt`` makes would be the caller's."""
    return principal.tenant == DEFAULT_TENANT and not principal.restricted


def _not_adopted(thread_id: str) -> RequestError:
    """The error of :func:`found` for a thread with checkpoints but no row; it names the remedy."""
    kind = InvalidRequest if canonical_uuid(thread_id) is None else ThreadNotFound
    return kind(
        f"Thread with ID {thread_id} not found: a graph has written checkpoints of this id past the"
        " API. `headrace db adopt` makes a thread for them."
    )
