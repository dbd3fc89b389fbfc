"""The saver that does each operation alone, as LangGraph does.

Like every saver of headrace, it stores the command and the model calls of a run with the run's
writes, and measures them. An answer gets a large checkpoint only when there is memory for it.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from inspect import signature
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
from headrace.checkpoints.commits import Commits
from headrace.checkpoints.copies import copy_thread
from headrace.checkpoints.deletions import delete_for_runs, retried_deletion
from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.retry import READ_SECONDS, Retries, retried
from headrace.checkpoints.rows import stored_writes
from headrace.checkpoints.run_saver import RunSaver
from headrace.checkpoints.run_writes import RunWrites, current_run, fail_run
from headrace.checkpoints.serializer import build_serializer
from headrace.checkpoints.single_writes import measured_commit, traced_checkpoint
from headrace.checkpoints.sized_reads import SizedReads
from headrace.checkpoints.tally import UsageTally
from headrace.checkpoints.timing import Observe, timed
from headrace.checkpoints.upstream import NULL_TASK, PooledSaver
from headrace.checkpoints.write_size import MAX_CHECKPOINT_BYTES
from headrace.checkpoints.writer import Writer
from headrace.db.faults import DATABASE_ERRORS
from headrace.db.pool import SharedPool
from headrace.error_text import MAX_BYTES
from headrace.errors import CheckpointTooLarge


class UpstreamSaver(PooledSaver, RunSaver):
    """The engine ``upstream``. The other engine replaces its writes, and most of its reads."""

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
    ) -> None:
        super().__init__(
            pool,
            acquire_timeout_seconds=acquire_timeout_seconds,
            max_checkpoint_bytes=max_checkpoint_bytes,
        )
        # LangGraph's default makes every type again.
        self.serde = build_serializer()
        self.observe = observe
        self._commits = commits
        self._writer = writer
        self._sized = SizedReads(pool, acquire_timeout_seconds=acquire_timeout_seconds)
        self._max_error_bytes = max_error_bytes
        # LangGraph asks for this signature in every run, and that of a method is made anew.
        known = partial(self.aput_writes)
        known.__signature__ = signature(self.aput_writes)  # type: ignore[attr-defined]
        self.__dict__["aput_writes"] = known

    async def setup(self) -> None:
        """Does nothing."""

    def run(
        self,
        token: RunToken | None = None,
        *,
        durability: str = "async",
        fresh_thread: str | None = None,
        usage: UsageTally | None = None,
    ) -> AbstractContextManager[RunWrites]:
        writes = self._writer.begin(
            token, waits_each=durability == "sync", fresh_thread=fresh_thread, usage=usage
        )
        return writes.current()

    async def stop(self) -> None:
        """There is nothing to wait for."""

    @timed("get_tuple")
    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        reading = current_reading()
        if reading is None:
            return await self._upstreams_tuple(config)
        thread_id, ns = place_of(config)
        return await self._one(thread_id, ns, get_checkpoint_id(config), reading)

    async def _upstreams_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await retried(
            lambda: PooledSaver.aget_tuple(self, config),
            seconds=READ_SECONDS,
            operation="get_tuple",
        )

    async def _one(
        self, thread_id: str, ns: str, checkpoint_id: str | None, reading: Reading
    ) -> CheckpointTuple | None:
        found = await self._sized.one(self, thread_id, ns, checkpoint_id, reading)
        if not isinstance(found, tuple) or isinstance(found, CheckpointTuple):
            return found
        return await self._large(thread_id, ns, *found, reading)

    async def _large(
        self, thread_id: str, ns: str, checkpoint_id: str, size_bytes: int, reading: Reading
    ) -> CheckpointTuple | None:
        """A large checkpoint that an answer reads alone."""
        await reading.admit(size_bytes)
        return await self._whole(thread_id, ns, checkpoint_id, reading)

    async def _whole(
        self, thread_id: str, ns: str, checkpoint_id: str, reading: Reading
    ) -> CheckpointTuple | None:
        found = await self._sized.whole(self, thread_id, ns, checkpoint_id, reading)
        if found is not None:
            return found
        where = {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}
        return await self._upstreams_tuple({"configurable": where})

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        if (run := current_run()) is not None:
            if run.may_hold_command:
                # A checkpoint after a command shows that the command was applied.
                await run.store_command()
            if run.usage is not None and run.usage.changed:
                await self._writer.queue_usage(run.usage)
        return await self._put(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        kept = stored_writes(writes, self._max_error_bytes)
        if (run := current_run()) is not None:
            if task_id == NULL_TASK and run.holds(
                partial(self._put_writes, config, kept, task_id, task_path)
            ):
                return
            if run.may_hold_command:
                await run.store_command()
            if run.usage is not None and run.usage.changed:
                await self._writer.queue_usage(run.usage)
        await self._put_writes(config, kept, task_id, task_path)

    @timed("put")
    async def _put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        run = current_run()
        if run is not None:
            run.raise_if_failed()
        with (
            self.measuring() as size,
            measured_commit(self._commits, "put", run, config, size),
            _failing_run(run),
            traced_checkpoint(run, checkpoint["id"], metadata),
        ):
            return await super().aput(config, checkpoint, metadata, new_versions)

    @timed("put_writes")
    async def _put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> None:
        run = current_run()
        with (
            self.measuring() as size,
            measured_commit(self._commits, "put_writes", run, config, size),
            _failing_run(run),
        ):
            await super().aput_writes(config, writes, task_id, task_path)

    @timed("delete_thread")
    async def adelete_thread(self, thread_id: str) -> None:
        await self._writer.settled(str(thread_id))
        await super().adelete_thread(thread_id)

    @timed("prune")
    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As LangGraph's, but a call that a concurrent deletion makes fail is repeated."""
        if not isinstance(thread_ids, str):
            # In one order, so that calls for the same threads wait for each other, not in a circle.
            thread_ids = sorted(set(thread_ids))
            for thread_id in thread_ids:
                await self._writer.settled(str(thread_id))
        upstreams = super().aprune
        await retried_deletion(lambda: upstreams(thread_ids, strategy=strategy))

    @timed("delete_for_runs")
    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """See :func:`headrace.checkpoints.deletions.delete_for_runs`."""

        async def delete() -> None:
            async with self._cursor() as cursor:
                await delete_for_runs(cursor, run_ids)

        await retried_deletion(delete)

    @timed("copy_thread")
    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """See :func:`headrace.checkpoints.copies.copy_thread`."""
        await self._writer.settled(str(source_thread_id))
        await self._writer.settled(str(target_thread_id))
        async with self._cursor() as cursor:
            await copy_thread(cursor, source_thread_id, target_thread_id)

    @timed("get_delta_channel_history")
    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        await self._writer.settled(str(config["configurable"]["thread_id"]))
        upstreams = super().aget_delta_channel_history
        return await retried(
            lambda: upstreams(config=config, channels=channels),
            seconds=READ_SECONDS,
            operation="get_delta_channel_history",
        )

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        # Only the time up to the first item counts. Later it includes the consumer's own time.
        started = perf_counter()
        first = True
        if config is not None:
            await self._writer.settled(str(config["configurable"]["thread_id"]))
        reading = current_reading()
        async for item in (
            self._all_listed(config, filter=filter, before=before, limit=limit)
            if reading is None or config is None
            else self._listed(reading, config, filter=filter, before=before, limit=limit)
        ):
            if first:
                self.observe("list", perf_counter() - started)
                first = False
            yield item
        if first:
            self.observe("list", perf_counter() - started)

    async def _all_listed(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Upstream's list. If the database is away, it goes on after the last item."""
        retries = _list_retries()
        left, found = limit, False
        while True:
            try:
                async for item in super().alist(config, filter=filter, before=before, limit=left):
                    found, before = True, item.config
                    left = None if left is None else left - 1
                    yield item
                    # The time that the consumer takes does not count.
                    retries = _list_retries()
                return
            except DATABASE_ERRORS as error:
                if config is None and found:
                    # The list is over several threads, and a copy of a thread has the ids of its
                    # checkpoints.
                    raise
                if left == 0:
                    return
                await retries.after(error)

    async def _listed(
        self,
        reading: Reading,
        config: RunnableConfig,
        *,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The first small checkpoints of the page; or the checkpoints that were admitted."""
        ids = [checkpoint_id for checkpoint_id, _ in reading.admitted]
        if len(ids) != 1:
            where, parameters = self.conditions(config, filter, before)
            for item in await self._sized.page(self, where, parameters, limit, reading):
                yield item
            ids = [checkpoint_id for checkpoint_id, _ in reading.rest] if ids else []
        thread_id, ns = place_of(config)
        for checkpoint_id in ids:
            if (found := await self._whole(thread_id, ns, checkpoint_id, reading)) is not None:
                yield found


def _list_retries() -> Retries:
    return Retries(seconds=READ_SECONDS, operation="list")


def place_of(config: RunnableConfig) -> tuple[str, str]:
    """Thread and namespace."""
    configurable = config["configurable"]
    return str(configurable["thread_id"]), configurable.get("checkpoint_ns", "")


@contextmanager
def _failing_run(run: RunWrites | None) -> Iterator[None]:
    """Let the run fail if a write is too large."""
    try:
        yield
    except CheckpointTooLarge as error:
        fail_run(run, error)
        raise
