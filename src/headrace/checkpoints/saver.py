"""The saver every graph of a process is compiled with: upstream's tables and SQL on the shared
pool, each operation timed."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)

from headrace.checkpoints.copies import copy_thread
from headrace.checkpoints.deletions import delete_for_runs, repeated
from headrace.checkpoints.upstream import PooledSaver
from headrace.db.pool import SharedPool

#: Called with the operation's name and its seconds.
Observe = Callable[[str, float], None]


class Saver(PooledSaver):
    """One per process, shared by all its runs; needs a running event loop."""

    def __init__(
        self, pool: SharedPool, *, observe: Observe, acquire_timeout_seconds: float = 30.0
    ) -> None:
        super().__init__(pool, acquire_timeout_seconds=acquire_timeout_seconds)
        self._observe = observe

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        with timed(self._observe, "get_tuple"):
            return await super().aget_tuple(config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        # The consumer's own time between items would be counted as ours: time the first page only.
        started = perf_counter()
        first = True
        async for item in super().alist(config, filter=filter, before=before, limit=limit):
            if first:
                self._observe("list", perf_counter() - started)
                first = False
            yield item
        if first:
            self._observe("list", perf_counter() - started)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        with timed(self._observe, "put"):
            return await super().aput(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        with timed(self._observe, "put_writes"):
            await super().aput_writes(config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        with timed(self._observe, "delete_thread"):
            await super().adelete_thread(thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As upstream's, except that two at the same time do not fail."""
        with timed(self._observe, "prune"):
            await repeated(lambda: super(Saver, self).aprune(thread_ids, strategy=strategy))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """See :func:`headrace.checkpoints.deletions.delete_for_runs`."""

        async def delete() -> None:
            async with self._cursor() as cursor:
                await delete_for_runs(cursor, run_ids)

        with timed(self._observe, "delete_for_runs"):
            await repeated(delete)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """See :func:`headrace.checkpoints.copies.copy_thread`."""
        with timed(self._observe, "copy_thread"):
            async with self._cursor() as cursor:
                await copy_thread(cursor, source_thread_id, target_thread_id)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        with timed(self._observe, "get_delta_channel_history"):
            return await super().aget_delta_channel_history(config=config, channels=channels)


@contextmanager
def timed(observe: Observe, operation: str) -> Iterator[None]:
    """Report the seconds the block took, also when it raises."""
    started = perf_counter()
    try:
        yield
    finally:
        observe(operation, perf_counter() - started)
