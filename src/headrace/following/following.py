"""What all followed runs of a process share: watcher, state reader, memory, and release."""

from headrace.checkpoints.answer_memory import AnswerMemory
from headrace.event_settings import EventSettings
from headrace.events.reader import FollowingStopped
from headrace.events.reader_buffers import BufferBudget
from headrace.following.run_watcher import Watch, Watcher
from headrace.states.reader import StateReader


class Following:
    """One per process. :class:`headrace.following.followed_run.FollowedRun` is built from it.

    :param states: reads the values that a run has left in its thread.
    :param reader_budget: bounds the memory of slow readers.
    """

    def __init__(
        self, watcher: Watcher, states: StateReader, reader_budget: BufferBudget | None = None
    ) -> None:
        self.watcher = watcher
        self.states = states
        self.reader_budget = reader_budget or BufferBudget(EventSettings())
        self.released = False
        self._watches: set[Watch] = set()

    @property
    def memory(self) -> AnswerMemory:
        """The memory for answers."""
        return self.states.memory

    @property
    def watching(self) -> int:
        """How many clients follow runs of other processes here."""
        return len(self._watches)

    def release(self) -> None:
        """The process drains: it stops following the runs that other processes execute."""
        self.released = True
        for watch in self._watches:
            watch.changed.set()

    def watch(self, watch: Watch) -> None:
        """Begin to watch; :meth:`unwatch` ends it."""
        self._watches.add(watch)
        self.watcher.add(watch)

    def unwatch(self, watch: Watch) -> None:
        self._watches.discard(watch)
        self.watcher.remove(watch)

    async def changed(self, watch: Watch, timeout_seconds: float) -> bool:
        """Wait for events or the end; False when neither comes within the timeout.

        :raises FollowingStopped: this process stops following, or cannot follow this run.
        """
        if not watch.waiting and not watch.complete:
            if watch.failed:
                raise FollowingStopped("fault")
            if self.released:
                raise FollowingStopped
            watch.changed.clear()
            if not await watch.changed.wait(timeout_seconds):
                return False
            if watch.failed:
                raise FollowingStopped("fault")
        return watch.waiting or watch.complete
