"""Rules of a thread's states: reading, changing and measuring them."""

from collections.abc import Sequence
from typing import Any

from headrace.auth.principal import Principal
from headrace.checkpoints.answer_memory import Reading
from headrace.errors import InvalidRequest
from headrace.ids import canonical_uuid
from headrace.request_limits import RequestLimits
from headrace.request_settings import RequestSettings
from headrace.states.history import History
from headrace.states.reader import StateReader
from headrace.states.schemas import (
    CheckpointRef,
    HistoryQuery,
    StateChange,
    StateUpdate,
    ThreadState,
    ThreadStorage,
    channels_for,
)
from headrace.threads.repository import found
from headrace.threads.service import ThreadService
from headrace.threads.state_repository import StateRepository
from headrace.threads.updates import StateUpdates


class StateService:
    def __init__(
        self,
        threads: ThreadService,
        states: StateReader,
        repository: StateRepository,
        updates: StateUpdates,
        limits: RequestLimits | None = None,
    ) -> None:
        self._threads = threads
        self._states = states
        self._repository = repository
        self._updates = updates
        self._limits = limits or RequestLimits(RequestSettings())

    async def read(
        self,
        principal: Principal,
        thread_id: str,
        *,
        checkpoint: CheckpointRef | None = None,
        subgraphs: bool = False,
        reading: Reading | None = None,
    ) -> ThreadState:
        """The state at a checkpoint; an empty state if the checkpoint does not exist.

        :raises ThreadNotFound: the caller may see no such thread.
        :raises InvalidRequest: ``checkpoint`` is another thread's.
        """
        row = await self._threads.get(principal, thread_id)
        return await self._states.read(
            row.thread_id,
            row.metadata.get("graph_id"),
            subgraphs=subgraphs,
            checkpoint=of_thread(checkpoint, row.thread_id),
            configurable=row.config.get("configurable"),
            reading=reading,
        )

    def reading(self, select: Sequence[str] | None = None) -> Reading:
        """Begin an answer with these fields of states. The caller releases its memory."""
        return self._states.memory.reading(channels=channels_for(select))

    async def history(
        self,
        principal: Principal,
        thread_id: str,
        query: HistoryQuery,
        reading: Reading | None = None,
    ) -> History:
        """States, newest first; none for a thread that has had no run.

        :raises ThreadNotFound: the caller may see no such thread.
        :raises InvalidRequest: the filter is too large, or names another thread's checkpoint.
        """
        self._limits.filter(query.metadata, "metadata")
        row = await self._threads.get(principal, thread_id)
        of_thread(query.checkpoint, row.thread_id)
        history = History(
            self._states,
            row.thread_id,
            row.metadata.get("graph_id"),
            query,
            configurable=row.config.get("configurable"),
            reading=reading or self._states.memory.reading(),
        )
        await history.plan()
        return history

    async def update(
        self, principal: Principal, thread_id: str, body: StateUpdate
    ) -> dict[str, Any]:
        """Change the state; returns the new checkpoint.

        :raises RequestError: as :meth:`StateUpdates.update`; nothing has changed.
        """
        checkpoint = of_thread(body.checkpoint, thread_id)
        if body.checkpoint_id is not None:
            named = checkpoint or CheckpointRef()
            if named.checkpoint_id not in (None, body.checkpoint_id):
                raise InvalidRequest("checkpoint and checkpoint_id name two checkpoints; send one")
            checkpoint = named.model_copy(update={"checkpoint_id": body.checkpoint_id})
        change = StateChange(values=body.values, as_node=body.as_node)
        return await self._updates.update(principal, thread_id, change, checkpoint)

    async def storage(self, principal: Principal, thread_id: str) -> ThreadStorage:
        """:raises ThreadNotFound: the caller may see no such thread."""
        return found(thread_id, await self._repository.storage(principal, thread_id))


def of_thread(checkpoint: CheckpointRef | None, thread_id: str) -> CheckpointRef | None:
    """``checkpoint``, if it belongs to this thread or names no thread.

    :raises InvalidRequest: it is another thread's.
    """
    named = None if checkpoint is None else checkpoint.thread_id
    if named is not None and _canonical(named) != _canonical(thread_id):
        raise InvalidRequest(
            f"checkpoint.thread_id is {named}, but the path names thread {thread_id}; send the"
            " checkpoint of that thread, or leave thread_id out."
        )
    return checkpoint


def _canonical(thread_id: str) -> str:
    return canonical_uuid(thread_id) or thread_id
