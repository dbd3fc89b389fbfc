"""The saver of graphs: upstream's tables, serializer and semantics on the shared pool.

It writes through the group-commit writer. It reads the latest checkpoints of many threads together.
"""

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
)

from headrace.checkpoints.answer_memory import Reading, current_reading
from headrace.checkpoints.channel_memory import ChannelMemory
from headrace.checkpoints.commits import Commits
from headrace.checkpoints.delta_history import DeltaHistories
from headrace.checkpoints.latest_reader import LatestReader
from headrace.checkpoints.retry import READ_SECONDS, retried
from headrace.checkpoints.rows import WriteRows, checkpoint_rows, task_rows
from headrace.checkpoints.run_writes import current_run, fail_run
from headrace.checkpoints.sized_reads import channels_of, tuple_of
from headrace.checkpoints.sized_reads_sql import LATEST_SMALL
from headrace.checkpoints.timing import Observe, timed
from headrace.checkpoints.upstream import ERROR_SOURCE
from headrace.checkpoints.upstream_saver import UpstreamSaver, place_of
from headrace.checkpoints.write_size import MAX_CHECKPOINT_BYTES, WriteSize
from headrace.checkpoints.writer import Writer
from headrace.db.pool import SharedPool
from headrace.error_text import MAX_BYTES
from headrace.errors import CheckpointTooLarge


class GroupCommitSaver(UpstreamSaver):
    """The engine ``group_commit``.

    :param channel_memory: None: each read of a delta channel puts its value together anew.
    """

    def __init__(
        self,
        pool: SharedPool,
        writer: Writer,
        *,
        observe: Observe,
        commits: Commits | None = None,
        acquire_timeout_seconds: float = 30.0,
        max_error_bytes: int = MAX_BYTES,
        max_checkpoint_bytes: int = MAX_CHECKPOINT_BYTES,
        read_batch: int = 64,
        read_timeout_seconds: float = 10.0,
        channel_memory: ChannelMemory | None = None,
    ) -> None:
        super().__init__(
            pool,
            writer,
            observe=observe,
            commits=commits,
            acquire_timeout_seconds=acquire_timeout_seconds,
            max_error_bytes=max_error_bytes,
            max_checkpoint_bytes=max_checkpoint_bytes,
        )
        self._reader = LatestReader(
            pool,
            acquire_timeout_seconds=acquire_timeout_seconds,
            timeout_seconds=read_timeout_seconds,
            max_batch=read_batch,
        )
        self._small_reader = LatestReader(
            pool,
            acquire_timeout_seconds=acquire_timeout_seconds,
            timeout_seconds=read_timeout_seconds,
            max_batch=read_batch,
            latest=LATEST_SMALL,
        )
        self._histories = DeltaHistories(channel_memory or ChannelMemory(0))

    async def stop(self) -> None:
        await self._reader.stop()
        await self._small_reader.stop()

    @timed("get_tuple")
    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        thread_id, ns = place_of(config)
        run = current_run()
        if run is not None and run.knows_empty(thread_id):
            return None
        await self._writer.settled(thread_id)
        reading = current_reading()
        if reading is not None:
            return await self._answering(config, reading)
        if get_checkpoint_id(config):
            return await self._upstreams_tuple(config)
        row = await self._reader.latest(thread_id, ns)
        if row is None:
            return None
        return await tuple_of(self, row) or await self._upstreams_tuple(config)

    @timed("get_delta_channel_history")
    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        checkpoint_id = get_checkpoint_id(config)
        if not checkpoint_id:
            return await super().aget_delta_channel_history(config=config, channels=channels)
        thread_id, ns = place_of(config)
        await self._writer.settled(thread_id)

        async def read() -> Mapping[str, DeltaChannelHistory]:
            async with self._cursor() as cursor:
                return {
                    channel: await self._histories.read(
                        cursor, self.serde, (thread_id, ns, channel), checkpoint_id
                    )
                    for channel in channels
                }

        return await retried(read, seconds=READ_SECONDS, operation="get_delta_channel_history")

    async def _answering(self, config: RunnableConfig, reading: Reading) -> CheckpointTuple | None:
        thread_id, ns = place_of(config)
        if get_checkpoint_id(config):
            return await self._one(thread_id, ns, get_checkpoint_id(config), reading)
        row = await self._small_reader.latest(thread_id, ns, channels_of(reading))
        if row is None:
            return None
        if row["checkpoint"] is not None and (found := await tuple_of(self, row)) is not None:
            return found
        return await self._large(thread_id, ns, row["checkpoint_id"], row["bytes"], reading)

    @timed("put")
    async def _put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        called_at, run = perf_counter(), current_run()
        size = WriteSize(self.max_checkpoint_bytes)
        try:
            rows = checkpoint_rows(
                self.serde, run, config, checkpoint, metadata, new_versions, size
            )
        except CheckpointTooLarge as error:
            fail_run(run, error)
            raise
        if run is not None:
            rows.trace = run.trace.checkpoint(checkpoint["id"], metadata, rows.size_bytes)
        await self._write(rows, called_at)
        configurable = config["configurable"]
        return {
            "configurable": {
                "thread_id": configurable["thread_id"],
                "checkpoint_ns": configurable["checkpoint_ns"],
                "checkpoint_id": checkpoint["id"],
            }
        }

    @timed("put_writes")
    async def _put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> None:
        called_at = perf_counter()
        # LangGraph starts an error handler only once the error is durable.
        handled = any(channel == ERROR_SOURCE for channel, _ in writes)
        run = current_run()
        size = WriteSize(self.max_checkpoint_bytes)
        try:
            rows = task_rows(self.serde, run, config, writes, task_id, task_path, size)
        except CheckpointTooLarge as error:
            fail_run(run, error)
            raise
        if rows is not None:
            await self._write(rows, called_at, waits=handled)

    async def _write(self, rows: WriteRows, called_at: float, *, waits: bool = False) -> None:
        rows.called_at, rows.commits = called_at, self._commits
        run = rows.run
        if run is None or run.waits_each or waits:
            await self._writer.commit(rows)
        else:
            run.raise_if_failed()
            await self._writer.queue(rows)
