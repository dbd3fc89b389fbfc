"""Rules of threads."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from headrace.auth.principal import Principal
from headrace.checkpoints.answer_memory import Reading
from headrace.db.tables import ThreadRow
from headrace.errors import (
    AnswerTooLarge,
    InvalidRequest,
    RequestError,
    ThreadExists,
    ThreadNotFound,
)
from headrace.idempotency.schemas import RequestKey
from headrace.idempotency.service import IdempotencyService
from headrace.ids import canonical_uuid, uuid7
from headrace.request_limits import RequestLimits
from headrace.request_settings import RequestSettings
from headrace.states.reader import EMPTY, StateReader
from headrace.threads.repository import ThreadRepository
from headrace.threads.schemas import ThreadCreate, ThreadPatch
from headrace.threads.wire import thread_json

T = TypeVar("T")

#: Metadata grows by what is merged into it, and is printed with spaces where it is measured.
_WHOLE = 2

#: Creates a thread with the states that its supersteps make; False when the id is taken.
CreateWithStates = Callable[[Principal, str, ThreadCreate], Awaitable[bool]]


class ThreadService:
    def __init__(
        self,
        repository: ThreadRepository,
        states: StateReader,
        keys: IdempotencyService,
        create_with_states: CreateWithStates,
        limits: RequestLimits | None = None,
    ) -> None:
        self._repository = repository
        self._states = states
        self._keys = keys
        self._create_with_states = create_with_states
        self._limits = limits or RequestLimits(RequestSettings())

    async def create_once(
        self, principal: Principal, body: ThreadCreate, key: RequestKey
    ) -> ThreadRow:
        """As :meth:`create`; a retry gets the thread that the first try has made."""
        reserved = await self._keys.reserve(principal, key)
        thread_id = body.thread_id or reserved.resource_id
        if reserved.made:
            return await self.get(principal, str(thread_id))
        again: dict[str, Any] = {"thread_id": thread_id}
        if reserved.resumed:
            again["if_exists"] = "do_nothing"
        async with self._keys.making(principal, key):
            row = await self.create(principal, body.model_copy(update=again))
        await self._keys.confirm(principal, key, row.thread_id)
        return row

    async def create(self, principal: Principal, body: ThreadCreate) -> ThreadRow:
        """A new thread, or with ``if_exists=do_nothing`` the one that is there.

        :raises ThreadExists: the id is taken.
        """
        self._limits.metadata(body.metadata)
        self._limits.supersteps(sum(len(step.updates) for step in body.supersteps or ()))
        thread_id = str(body.thread_id or uuid7())
        row = None
        if not body.supersteps:
            row = await self._repository.create_if_absent(
                principal, thread_id, body.metadata or {}, body.ttl
            )
        elif await self._create_with_states(principal, thread_id, body):
            row = await self._repository.get(principal, thread_id)
        if row is None and body.if_exists == "do_nothing":
            row = await self._repository.get(principal, thread_id)
        if row is None:
            raise ThreadExists(f"Thread with ID {thread_id} already exists")
        return row

    async def make_once(
        self, principal: Principal, key: RequestKey, make: Callable[[str], Awaitable[ThreadRow]]
    ) -> ThreadRow:
        """What ``make`` makes of the id it is given; a retry gets what the first try has made."""
        reserved = await self._keys.reserve(principal, key)
        thread_id = str(reserved.resource_id)
        if reserved.made:
            return await self.get(principal, thread_id)
        async with self._keys.making(principal, key):
            row = await self._repository.get(principal, thread_id) if reserved.resumed else None
            row = row or await make(thread_id)
        await self._keys.confirm(principal, key, thread_id)
        return row

    async def stored_id(self, principal: Principal, given: str) -> str:
        """The id under which the thread is stored that a client names in its own spelling.

        Of a UUID that is the canonical one, unless a thread was adopted under just this spelling.
        """
        return (await self.stored_ids(principal, [given]))[0]

    async def stored_ids(self, principal: Principal, given: Sequence[str]) -> list[str]:
        """As :meth:`stored_id`, of several; only unusual spellings are looked for."""
        canonical = {one: canonical_uuid(one) or one for one in given}
        unusual = [one for one, usual in canonical.items() if one != usual]
        if unusual:
            there = await self._repository.those_there(principal, unusual)
            canonical.update((one, one) for one in there)
        return [canonical[one] for one in given]

    async def get(self, principal: Principal, thread_id: str) -> ThreadRow:
        """
        :raises ThreadNotFound: there is none that the caller may see.
        :raises InvalidRequest: nor can there be: it is no UUID.
        """
        row = await self._repository.get(principal, thread_id)
        if row is None and await self._repository.has_only_checkpoints(thread_id):
            raise _not_adopted(thread_id)
        return found(thread_id, row)

    async def update(self, principal: Principal, thread_id: str, body: ThreadPatch) -> ThreadRow:
        """:raises ThreadNotFound, InvalidRequest: as :meth:`get`, or metadata becomes too much."""
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

    async def shown(self, row: ThreadRow, reading: Reading) -> dict[str, Any]:
        """The thread with its present values, as clients see it.

        :raises AnswersFull: there is no memory for the values now.
        """
        try:
            return thread_json(row, await self.values(row, reading))
        except AnswerTooLarge as refusal:
            return thread_json(row, None, values_omitted=refusal.message)

    def reading(self) -> Reading:
        """Of an answer with one thread; the caller releases it."""
        return self._states.memory.reading()

    async def values(self, row: ThreadRow, reading: Reading | None = None) -> Any:
        """The thread's present values; None before its first run.

        :raises AnswerTooLarge, AnswersFull: as :meth:`Reading.admit`.
        """
        if row.state_updated_at is None:
            return None
        state = await self._states.read(
            row.thread_id,
            row.metadata_.get("graph_id"),
            configurable=row.config.get("configurable"),
            reading=reading,
        )
        return None if state is EMPTY else state.values


def found(thread_id: str, row: T | None) -> T:
    """What was looked for by a thread's id.

    :raises ThreadNotFound: it is not there.
    :raises InvalidRequest: nor is the id one that a thread of the API has.
    """
    if row is not None:
        return row
    if not is_uuid(thread_id):
        raise InvalidRequest("Invalid thread ID: must be a UUID")
    raise ThreadNotFound(f"Thread with ID {thread_id} not found")


def _not_adopted(thread_id: str) -> RequestError:
    """As :func:`found` refuses, with what to do about it."""
    kind = ThreadNotFound if is_uuid(thread_id) else InvalidRequest
    return kind(
        f"Thread with ID {thread_id} not found: a graph has written checkpoints of this id past the"
        " API. `headrace db adopt` makes threads of such."
    )


def is_uuid(value: str) -> bool:
    return canonical_uuid(value) is not None
