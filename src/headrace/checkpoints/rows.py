"""The saver's two writes, a checkpoint and the writes of a task, as rows of upstream's tables.

Each column is encoded into a field of Postgres's binary form when the saver is called. So a value
that cannot be encoded fails only its own caller.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME

from headrace.checkpoints.commits import Commits
from headrace.checkpoints.flush_call import Answer, Arguments
from headrace.checkpoints.metadata import stored_metadata
from headrace.checkpoints.operations import CalledKind, Numbers, Operation, written_if_live
from headrace.checkpoints.run_writes import RunWrites
from headrace.checkpoints.serializer import ExactSerializer
from headrace.checkpoints.upstream import ERROR_SOURCE, DeltaSnapshot
from headrace.checkpoints.write_size import WriteSize
from headrace.db.arrays import (
    NULL_FIELD,
    Boolean,
    Bytea,
    Column,
    Integer,
    JsonbFields,
    Pieces,
    TextFields,
    jsonb_field,
    jsonb_size,
    text_field,
)
from headrace.db.jsonb import PLAIN, dump_jsonb, is_exact
from headrace.error_text import MAX_BYTES, error_repr
from headrace.errors import CheckpointTooLarge
from headrace.observability.masking import masked_text

Row = tuple[Any, ...]

#: Rows by primary key. Each row has the number of its token and all columns. Texts and JSON are
#: fields (``db/arrays.py``). Blobs have no length before them, so that they are copied only once.
#: The key of a write does not include ``replaces``.
Rows = dict[tuple[Any, ...], Row]

#: Channels that say how a task ended. The others have its values.
_OF_THE_TASK = frozenset((ERROR, ERROR_SOURCE, INTERRUPT, RESUME))


class WriteRows(Operation):
    """The rows of one call of the saver."""

    __slots__ = ("blobs", "called_at", "checkpoint", "commits", "writes")
    has_keys_of_thread = True

    def __init__(
        self,
        thread_id: str,
        run: RunWrites | None,
        *,
        blobs: Sequence[Row] = (),
        checkpoint: Row | None = None,
        writes: Sequence[Row] = (),
    ) -> None:
        super().__init__(thread_id, run, size_bytes=_size(blobs, checkpoint, writes))
        #: (thread_id, ns, channel, version, type, blob)
        self.blobs = blobs
        #: (thread_id, ns, id, parent_id, checkpoint, metadata)
        self.checkpoint = checkpoint
        #: (thread_id, ns, checkpoint_id, task_id, idx, task_path, channel, type, blob, replaces)
        self.writes = writes
        #: When the saver was called (``perf_counter``), and what measures the commit.
        self.called_at = 0.0
        self.commits: Commits | None = None

    def settle(self, outcome: Any) -> None:
        super().settle(outcome)
        if self.commits is not None and not isinstance(outcome, BaseException):
            self.commits.note(
                "put_writes" if self.checkpoint is None else "put",
                self.called_at,
                thread_id=self.thread_id,
                run=self.run,
                size_bytes=self.size_bytes,
            )


def checkpoint_rows(
    serde: SerializerProtocol,
    run: RunWrites | None,
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    new_versions: ChannelVersions,
    size: WriteSize | None = None,
) -> WriteRows:
    """A checkpoint, and the blobs of the channels that changed.

    Plain values are in the checkpoint's JSON. A plain value that JSON would change is a blob.

    :param size: counts the bytes and refuses too many.
    :raises TypeError: the serializer has no form for a value.
    :raises CheckpointTooLarge: the values together are larger than one write may be.
    """
    size = size or WriteSize()
    configurable = config["configurable"]
    # What is missing is told before what cannot be stored, as LangGraph tells it.
    thread_id, namespace = str(configurable["thread_id"]), configurable["checkpoint_ns"]
    thread, ns = _text(thread_id), _text(namespace)
    inline: dict[str, Any] = {}
    blobs: list[Row] = []
    for channel, value in checkpoint["channel_values"].items():
        if value is None or (isinstance(value, PLAIN) and is_exact(value)):
            inline[channel] = value
            if isinstance(value, str):
                size.add(channel, len(value))
            continue
        if isinstance(value, DeltaSnapshot):
            inline[channel] = True
        if channel in new_versions:
            kind, blob = _serialized(serde, channel, value, size)
            version = _text(new_versions[channel])
            blobs.append((thread, ns, _text(channel), version, _text(kind), blob))
    parent = configurable.get("checkpoint_id")
    told = stored_metadata(config, metadata) if run is None else run.metadata.of(config, metadata)
    row = (
        thread,
        ns,
        _text(checkpoint["id"]),
        NULL_FIELD if parent is None else _text(parent),
        jsonb_field(dump_jsonb({**checkpoint, "channel_values": inline})),
        jsonb_field(dump_jsonb(told)),
    )
    return WriteRows(thread_id, run, blobs=blobs, checkpoint=row)


def stored_writes(
    writes: Sequence[tuple[str, Any]], max_error_bytes: int = MAX_BYTES
) -> Sequence[tuple[str, Any]]:
    """The writes of a task that are stored. If the task failed or was cancelled, only that fact is
    stored, without the task's values.

    LangGraph also hands over what the task had written before. But it treats a task as done if any
    write of the task is stored. Suppose a run was stopped between a node's values and its edge:
    with stored values, it would end there as a success when it goes on.

    The serializer stores an exception as its ``repr()``. User code may make that long, or let it
    raise. Here the exception becomes text; above ``max_error_bytes`` its middle is cut out.
    """
    if all(channel != ERROR for channel, _ in writes):
        return writes
    return [
        (
            channel,
            masked_text(
                error_repr(value, max_bytes=2 * max_error_bytes), max_bytes=max_error_bytes
            ),
        )
        if isinstance(value, BaseException)
        else (channel, value)
        for channel, value in writes
        if channel in _OF_THE_TASK
    ]


def task_rows(
    serde: SerializerProtocol,
    run: RunWrites | None,
    config: RunnableConfig,
    writes: Sequence[tuple[str, Any]],
    task_id: str,
    task_path: str,
    size: WriteSize | None = None,
) -> WriteRows | None:
    """The rows of a task's writes; None if there are none.

    Errors and interrupts replace an earlier row. Values do not.

    :raises CheckpointTooLarge: as :func:`checkpoint_rows`.
    """
    size = size or WriteSize()
    configurable = config["configurable"]
    thread_id = str(configurable["thread_id"])
    ns, checkpoint_id = configurable["checkpoint_ns"], configurable["checkpoint_id"]
    if not writes:
        return None
    key = (_text(thread_id), _text(ns), _text(checkpoint_id), _text(task_id))
    path = _text(task_path)
    replaces = all(channel in WRITES_IDX_MAP for channel, _ in writes)
    rows: list[Row] = []
    for position, (channel, value) in enumerate(writes):
        kind, blob = _serialized(serde, channel, value, size)
        index = WRITES_IDX_MAP.get(channel, position)
        rows.append((*key, index, path, _text(channel), _text(kind), blob, replaces))
    return WriteRows(thread_id, run, writes=rows)


def _serialized(
    serde: SerializerProtocol, channel: str, value: Any, size: WriteSize
) -> tuple[str, bytes | Pieces]:
    size.expect(channel, value)
    if isinstance(serde, ExactSerializer):
        kind, blob = serde.dumps_pieces(value)
    else:
        kind, blob = serde.dumps_typed(value)
    size_bytes = len(blob)
    try:
        size.add(channel, size_bytes)
    except CheckpointTooLarge:
        # The error lives as long as its run, and would keep the values of this frame alive.
        del blob, value
        raise
    return kind, blob


class _RowsKind(CalledKind):
    """All rows of a batch."""

    order = 1

    def arguments(self, operations: Sequence[WriteRows], numbers: Numbers) -> Arguments:
        return _columns_of(operations, numbers)

    def outcomes(
        self, operations: Sequence[WriteRows], numbers: Numbers, answer: Answer
    ) -> Sequence[Any]:
        return written_if_live(operations, numbers, answer)


def _columns_of(operations: Sequence[WriteRows], numbers: Numbers) -> Arguments:
    blobs: Rows = {}
    checkpoints: Rows = {}
    writes: Rows = {}
    for operation in operations:
        number = numbers.of(operation)
        for row in operation.blobs:
            blobs.setdefault(row[:4], (number, *row))
        if operation.checkpoint is not None:
            key = operation.checkpoint[:3]
            row = (number, *operation.checkpoint)
            checkpoints[key] = _merged_checkpoint(checkpoints.get(key), row)
        for row in operation.writes:
            writes[row[:5]] = _merged_write(writes.get(row[:5]), (number, *row))
    columns: dict[str, Column] = {}
    for names, rows in ((_BLOBS, blobs), (_CHECKPOINTS, checkpoints), (_WRITES, writes)):
        if rows:
            columns |= {
                name: column(elements)
                for (name, column), elements in zip(
                    names.items(), zip(*rows.values(), strict=True), strict=True
                )
            }
    return columns


def _merged_checkpoint(earlier: Row | None, row: Row) -> Row:
    """The result of two upserts of a checkpoint: parent of the first, the rest of the second."""
    return row if earlier is None else (*row[:4], earlier[4], *row[5:])


def _merged_write(earlier: Row | None, row: Row) -> Row:
    """The result of two writes with one key. The first value stays, but an error or interrupt
    replaces it. The path stays in any case.
    """
    if earlier is None:
        return row
    return (*row[:6], earlier[6], *row[7:]) if row[-1] else earlier


_BLOBS: Mapping[str, type[Column]] = {
    "blob_tokens": Integer,
    "blob_thread_ids": TextFields,
    "blob_namespaces": TextFields,
    "blob_channels": TextFields,
    "blob_versions": TextFields,
    "blob_types": TextFields,
    "blob_values": Bytea,
}
_CHECKPOINTS: Mapping[str, type[Column]] = {
    "checkpoint_tokens": Integer,
    "checkpoint_thread_ids": TextFields,
    "checkpoint_namespaces": TextFields,
    "checkpoint_ids": TextFields,
    "checkpoint_parent_ids": TextFields,
    "checkpoint_values": JsonbFields,
    "checkpoint_metadata": JsonbFields,
}
_WRITES: Mapping[str, type[Column]] = {
    "write_tokens": Integer,
    "write_thread_ids": TextFields,
    "write_namespaces": TextFields,
    "write_checkpoint_ids": TextFields,
    "write_task_ids": TextFields,
    "write_idx": Integer,
    "write_task_paths": TextFields,
    "write_channels": TextFields,
    "write_types": TextFields,
    "write_values": Bytea,
    "write_replaces": Boolean,
}


def _text(value: Any) -> bytes:
    return text_field((value if type(value) is str else str(value)).encode())


def _size(blobs: Sequence[Row], checkpoint: Row | None, writes: Sequence[Row]) -> int:
    """The bytes of the columns that may be large."""
    size = sum(len(row[5]) for row in blobs) + sum(len(row[8]) for row in writes)
    if checkpoint is not None:
        size += jsonb_size(checkpoint[4]) + jsonb_size(checkpoint[5])
    return size


WriteRows.kind = _RowsKind()
