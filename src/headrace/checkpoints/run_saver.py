"""What headrace needs of the saver that a process shares between all its runs."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

from langgraph.checkpoint.base import BaseCheckpointSaver

from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.run_writes import RunWrites


class RunSaver(BaseCheckpointSaver[str], ABC):
    """One per process, shared by all its runs; needs a running event loop.

    :ivar max_checkpoint_bytes: what one write may hold; larger ones raise ``CheckpointTooLarge``.
    """

    max_checkpoint_bytes: int

    @abstractmethod
    async def setup(self) -> None:
        """Does nothing: ``headrace db upgrade`` lays the tables, and a server changes no schema."""

    @abstractmethod
    def run(
        self,
        token: RunToken | None = None,
        *,
        durability: str = "async",
        fresh_thread: str | None = None,
    ) -> AbstractContextManager[RunWrites]:
        """Calls within the block, and from tasks started in it, belong to one run.

        A call returns after its commit. Within the block it may return earlier, and ``committed``
        of the writes that it yields waits for all of them; a read of a thread waits for what is
        queued for it.

        :param token: the fence its writes stand behind; the engine ``upstream`` has none.
        :param durability: LangGraph's; with ``sync`` every call still waits for its own commit.
        :param fresh_thread: a thread that has nothing stored yet: it need not be read first.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Wait for the reads under way. The writer is stopped by its owner."""
