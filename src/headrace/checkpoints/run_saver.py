"""The interface of the saver that all runs of a process share."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

from langgraph.checkpoint.base import BaseCheckpointSaver

from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.run_writes import RunWrites
from headrace.checkpoints.tally import UsageTally


class RunSaver(BaseCheckpointSaver[str], ABC):
    """One per process, shared by all its runs; needs a running event loop.

    :ivar max_checkpoint_bytes: what one write may hold; larger ones raise ``CheckpointTooLarge``.
    """

    max_checkpoint_bytes: int

    @abstractmethod
    async def setup(self) -> None:
        """Does nothing: only ``headrace db upgrade`` creates tables."""

    @abstractmethod
    def run(
        self,
        token: RunToken | None = None,
        *,
        durability: str = "async",
        fresh_thread: str | None = None,
        usage: UsageTally | None = None,
    ) -> AbstractContextManager[RunWrites]:
        """Within the block, and in tasks that start there, calls of the saver belong to one run.

        Outside of a block, a call returns after its commit. Within the block, it may return
        earlier: await ``committed`` of the yielded :class:`RunWrites`. A read of a thread waits for
        the writes that are queued for the thread.

        :param token: the token of the fence. The engine ``upstream`` has no fence.
        :param durability: LangGraph's; with ``sync`` every call still waits for its own commit.
        :param fresh_thread: a thread for which nothing is stored yet, so that it need not be read.
        :param usage: the model calls of the run, stored with its checkpoints.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Wait for the reads under way. The writer is stopped by its owner."""
