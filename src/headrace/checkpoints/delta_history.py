"""Reads how delta channels got their values; see ``delta_history.sql``."""

from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import DeltaChannelHistory, writes_sort_key
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg import AsyncCursor
from psycopg.rows import DictRow

from headrace.checkpoints.allowed_types import TypeKey
from headrace.checkpoints.channel_memory import ChannelMemory, Place, RememberedWrites
from headrace.checkpoints.decoding import decoded
from headrace.checkpoints.serializer import ExactSerializer
from headrace.db.statements import named_statements

_SQL = named_statements("headrace.checkpoints", "delta_history.sql")["delta_history"]


@dataclass(frozen=True)
class DeltaHistories:
    """One per process."""

    memory: ChannelMemory

    async def read(
        self,
        cursor: AsyncCursor[DictRow],
        serde: SerializerProtocol,
        place: Place,
        checkpoint_id: str,
    ) -> DeltaChannelHistory:
        """As LangGraph's ``aget_delta_channel_history`` for one channel of a checkpoint."""
        thread_id, ns, channel = place
        known = self.memory.known(place)
        if known is not None and known.checkpoint_id == checkpoint_id:
            history = DeltaChannelHistory(writes=[], seed=known.seed)
            return self._remembered(history, place, checkpoint_id, known.size_bytes)
        parameters = {
            "thread_id": thread_id,
            "ns": ns,
            "checkpoint_id": checkpoint_id,
            "channel": channel,
            "known_id": known.checkpoint_id if known is not None else None,
        }
        await cursor.execute(_SQL, parameters, prepare=True)
        rows = await cursor.fetchall()
        writes = [row for row in rows if row["kind"] == "w"]
        writes.sort(key=_order)
        size_bytes = sum(len(row["blob"]) for row in rows if row["blob"] is not None)
        blocked: set[TypeKey] = set()

        def decode() -> DeltaChannelHistory:
            found = [(row["task_id"], channel, _value(serde, row, blocked)) for row in writes]
            history = DeltaChannelHistory(writes=found)
            for row in rows:
                if row["kind"] == "k" and known is not None:
                    history["seed"] = known.seed
                elif row["kind"] == "b":
                    history["seed"] = _value(serde, row, blocked)
                elif row["kind"] == "i":
                    history["seed"] = row["inline"]
            return history

        history = await decoded(size_bytes, decode)
        if known is not None and any(row["kind"] == "k" for row in rows):
            size_bytes += known.size_bytes
        if blocked:
            # An answer shows fields in place of some values. No run may get these.
            return history
        return self._remembered(history, place, checkpoint_id, size_bytes)

    def _remembered(
        self, history: DeltaChannelHistory, place: Place, checkpoint_id: str, size_bytes: int
    ) -> DeltaChannelHistory:
        """The history, with writes that let the channel remember what it makes of them."""
        writes = history["writes"]
        return {
            **history,
            "writes": RememberedWrites(writes, self.memory, place, checkpoint_id, size_bytes),
        }


def _value(serde: SerializerProtocol, row: DictRow, blocked: set[TypeKey]) -> Any:
    stored = (row["type"], row["blob"])
    if isinstance(serde, ExactSerializer):
        return serde.loads_noting(stored, blocked)
    return serde.loads_typed(stored)


def _order(row: DictRow) -> tuple[int, tuple[str, str, int]]:
    """Oldest first; the writes of one step as LangGraph applies them."""
    return -row["depth"], writes_sort_key(row["task_path"], row["task_id"], row["idx"])
