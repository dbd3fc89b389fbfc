"""All private names of LangGraph and its checkpointers that headrace uses.

Those of its stores are in queued_store.py. If LangGraph moves one, a test fails and names it.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.language_models._compat_bridge import message_to_events
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph._internal._constants import (
    CONFIG_KEY_STREAM_MESSAGES_V2,
    ERROR_SOURCE_NODE,
    INPUT,
    INTERRUPT,
    NULL_TASK_ID,
    PULL,
)
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_METHODS, SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.jsonplus import _msgpack_default, _option
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.graph.message import _messages_delta_reducer
from langgraph.pregel._read import ChannelRead
from psycopg import AsyncCursor
from psycopg.rows import DictRow

from headrace.checkpoints.metadata import stored_config
from headrace.checkpoints.run_writes import current_run
from headrace.checkpoints.write_size import MAX_CHECKPOINT_BYTES, WriteSize
from headrace.db.jsonb import PLAIN, is_exact
from headrace.db.planner import langgraph_cursor, use_indexes
from headrace.db.pool import Connection, SharedPool

#: The channel to which LangGraph writes the error for an error handler.
ERROR_SOURCE = ERROR_SOURCE_NODE

#: The id of the task under which LangGraph stores the writes of a command.
NULL_TASK = NULL_TASK_ID

#: The path of a task that an edge has started begins like this; the name of its node follows.
PULLED = f"~{PULL}, "

#: Names in ``versions_seen`` that are no nodes.
HIDDEN_NODES = (INPUT, INTERRUPT)

#: The whole value of a DeltaChannel. The channel puts it into some checkpoints.
DeltaSnapshot: type = _DeltaSnapshot

#: LangGraph's serializer packs values without a form in msgpack with this function and these
#: options.
pack_other: Callable[[Any], Any] = _msgpack_default
PACK_OPTIONS: int = _option

#: The types that LangGraph makes again in its strict mode, and the methods that it calls for that.
SAFE_TYPES: frozenset[tuple[str, ...]] = SAFE_MSGPACK_TYPES
SAFE_METHODS: frozenset[tuple[str, str, str]] = SAFE_MSGPACK_METHODS

#: If a ``DeltaChannel`` has this reducer, LangGraph gives an id to every message that is written to
#: it, whatever the form of the message.
GIVES_IDS: Callable[..., Any] = _messages_delta_reducer

#: A graph that has this key in its configuration, and streams in version 2, streams messages as
#: blocks of content.
STREAMS_BLOCKS = CONFIG_KEY_STREAM_MESSAGES_V2

#: The events of a whole message, as if a model had streamed it in blocks of content.
block_events: Callable[[BaseMessage], Iterator[Any]] = message_to_events

#: Checkpoints before this version keep their pending sends with their parent.
_SENDS_ARE_A_CHANNEL = 4


#: The size of the write that the calling task makes.
_measured: ContextVar[WriteSize | None] = ContextVar("headrace_write_size", default=None)


@dataclass(frozen=True, slots=True)
class _Blob:
    """A plain value that is stored as a blob."""

    value: Any


@asynccontextmanager
async def cursor_on(
    connection: Connection, *, pipeline: bool, supports_pipeline: bool
) -> AsyncIterator[AsyncCursor[DictRow]]:
    """The cursor that LangGraph's two ``_cursor`` methods give, on this connection."""
    if not pipeline:
        async with langgraph_cursor(connection) as cursor:
            yield cursor
    elif supports_pipeline:
        async with connection.pipeline():
            await use_indexes(connection)
            async with langgraph_cursor(connection) as cursor:
                yield cursor
    else:
        async with connection.transaction():
            await use_indexes(connection)
            async with langgraph_cursor(connection) as cursor:
                yield cursor


class PooledSaver(AsyncPostgresSaver):
    """LangGraph's saver without its lock, which lets a pool of ten connections work like one.

    ``_cursor`` is the saver's only way to the database. A subclass that replaces only this method
    keeps LangGraph's SQL, serializer and semantics.
    """

    def __init__(
        self,
        pool: SharedPool,
        *,
        acquire_timeout_seconds: float,
        max_checkpoint_bytes: int = MAX_CHECKPOINT_BYTES,
    ) -> None:
        super().__init__(pool)
        self.max_checkpoint_bytes = max_checkpoint_bytes
        self._pool = pool
        self._acquire_timeout_seconds = acquire_timeout_seconds

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        async with (
            self._pool.connection(self._acquire_timeout_seconds) as connection,
            cursor_on(
                connection, pipeline=pipeline, supports_pipeline=self.supports_pipeline
            ) as cursor,
        ):
            yield cursor

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As LangGraph's, with two differences. Plain values that jsonb would change go into blobs,
        and less of the configuration is stored.

        :raises CheckpointTooLarge: the values together are larger than one write may be.
        """
        values = {
            name: _Blob(value) if isinstance(value, PLAIN) and not is_exact(value) else value
            for name, value in checkpoint["channel_values"].items()
        }
        size = self._size()
        for name, value in values.items():
            if isinstance(value, str):
                size.add(name, len(value))
        kept = cast("Checkpoint", {**checkpoint, "channel_values": values})
        return await super().aput(self._stored(config), kept, metadata, new_versions)

    @contextmanager
    def measuring(self) -> Iterator[WriteSize]:
        """Within the block, one write counts its bytes into the yielded size."""
        size = WriteSize(self.max_checkpoint_bytes)
        before = _measured.set(size)
        try:
            yield size
        finally:
            _measured.reset(before)

    def _size(self) -> WriteSize:
        # LangGraph serializes in a thread, which has a copy of the caller's context.
        return _measured.get() or WriteSize(self.max_checkpoint_bytes)

    def _stored(self, config: RunnableConfig) -> RunnableConfig:
        """The part of the configuration that is stored."""
        return stored_config(config, ids_only=current_run() is not None)

    def _dump_blobs(
        self, thread_id: str, checkpoint_ns: str, values: dict[str, Any], versions: ChannelVersions
    ) -> list[tuple[str, str, str, str, str, bytes | None]]:
        plain = {
            name: value.value if isinstance(value, _Blob) else value
            for name, value in values.items()
        }
        blobs = super()._dump_blobs(thread_id, checkpoint_ns, plain, versions)
        size = self._size()
        for _, _, channel, _, _, blob in blobs:
            size.add(channel, len(blob or b""))
        return blobs

    def _dump_writes(
        self,
        thread_id: str,
        checkpoint_ns: str,
        checkpoint_id: str,
        task_id: str,
        task_path: str,
        writes: Sequence[tuple[str, Any]],
    ) -> list[tuple[str, str, str, str, str, int, str, str, bytes]]:
        rows = super()._dump_writes(
            thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, writes
        )
        size = self._size()
        for row in rows:
            size.add(row[6], len(row[8]))
        return rows

    def conditions(
        self,
        config: RunnableConfig,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
    ) -> tuple[str, list[Any]]:
        """The WHERE clause of ``alist``, and its parameters."""
        return self._search_where(config, filter, before)

    def _tuple_from(self, row: DictRow) -> CheckpointTuple | None:
        """The result of ``aget_tuple`` for a row, made without a thread of the thread pool.

        None for an old checkpoint whose pending sends must still be fetched.
        """
        checkpoint, parent_id = row["checkpoint"], row["parent_checkpoint_id"]
        if checkpoint["v"] < _SENDS_ARE_A_CHANNEL and parent_id:
            return None
        key = {"thread_id": row["thread_id"], "checkpoint_ns": row["checkpoint_ns"]}
        values = checkpoint.get("channel_values") or {}
        return CheckpointTuple(
            {"configurable": {**key, "checkpoint_id": row["checkpoint_id"]}},
            cast(
                "Checkpoint",
                {
                    **checkpoint,
                    "channel_values": {**values, **self._load_blobs(row["channel_values"])},
                },
            ),
            row["metadata"],
            {"configurable": {**key, "checkpoint_id": parent_id}} if parent_id else None,
            self._load_writes(row["pending_writes"]),
        )


def without_snapshot(value: Any) -> Any:
    """The value; unwrapped if a saver has wrapped it as the whole value of a DeltaChannel."""
    return value.value if isinstance(value, _DeltaSnapshot) else value


def read_channel(config: RunnableConfig, channel: str) -> Any:
    """The value of a channel of the graph whose node has this configuration.

    A node's input is walked message by message for several purposes, among them the streams of
    LangGraph. A value that the node reads by itself is not.
    """
    return ChannelRead.do_read(config, select=channel)
