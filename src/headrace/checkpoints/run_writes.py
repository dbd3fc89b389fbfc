"""The writes of one run, from its first checkpoint to its end: queued in order, awaited together.

LangGraph chains its checkpoints: each waits for the call before. Within a run, a call returns as
soon as its write is queued. The worker awaits :meth:`RunWrites.committed` before it sends anything
to a client. A failed write fails the run: nothing after it is written, and the next call raises.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.metadata import RunMetadata
from headrace.checkpoints.tally import UsageTally
from headrace.tracing.tracer import NO_ATTEMPT_TRACE, AttemptTrace

#: Stores a command that was kept back.
StoreNow = Callable[[], Awaitable[None]]

_current: ContextVar["RunWrites | None"] = ContextVar("headrace_run_writes", default=None)


class RunWrites:
    """The queued writes of a run, and their outcome.

    :param token: the run's token; None for a graph that is called outside of headrace's runs.
    :param waits_each: durability ``sync``: every call returns after its own commit.
    :param fresh_thread: a thread for which nothing is stored yet.
    :param usage: the run's model calls, stored with its writes; None if nobody counts them.
    :param hurry: called with a thread when a caller begins to wait for its queued writes.
    """

    __slots__ = (
        "_fresh_thread",
        "_held",
        "_holds_command",
        "_hurry",
        "_idle",
        "_threads",
        "_unsettled",
        "failure",
        "metadata",
        "token",
        "trace",
        "usage",
        "waits_each",
    )

    def __init__(
        self,
        token: RunToken | None,
        *,
        waits_each: bool,
        fresh_thread: str | None,
        hurry: Callable[[str], None],
        usage: UsageTally | None = None,
    ) -> None:
        self.token = token
        self.usage = usage
        self.waits_each = waits_each
        #: The trace of the attempt that writes.
        self.trace: AttemptTrace = NO_ATTEMPT_TRACE
        self.metadata = RunMetadata()
        self._fresh_thread = fresh_thread
        self.failure: BaseException | None = None
        self._hurry = hurry
        self._threads: set[str] = set()
        self._unsettled = 0
        self._idle: asyncio.Future[None] | None = None
        #: Calls that store the command, until LangGraph has applied it.
        self._held: list[StoreNow] = []
        self._holds_command = token is not None

    def current(self) -> "_CurrentBlock":
        """Within the block, and tasks started in it, the saver's calls belong to this run."""
        return _CurrentBlock(self)

    def holds(self, store: StoreNow) -> bool:
        """Keep the call that stores the run's command; return whether it is kept.

        It is not kept if the command is known to be applied. LangGraph stores a command before it
        applies it, and each later run of the thread applies all stored commands again. A command
        that a reducer refuses would fail all those runs. So the command is kept here until the
        graph goes on. If the run fails before that, the command is forgotten.
        """
        if self._holds_command:
            self._held.append(store)
        return self._holds_command

    @property
    def may_hold_command(self) -> bool:
        """Whether :meth:`store_command` has something to do."""
        return self._holds_command or bool(self._held)

    async def store_command(self) -> None:
        """Store the kept command, if there is one: it has been applied. Safe to repeat."""
        self._holds_command = False
        while self._held:
            await self._held.pop(0)()

    def raise_if_failed(self) -> None:
        """:raises BaseException: the error of an earlier write of the run."""
        if self.failure is not None:
            raise self.failure

    def fail(self, failure: BaseException) -> None:
        """Record that a write could not be queued: nothing is written after it."""
        if self.failure is None:
            self.failure = failure
        if self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    async def committed(self) -> None:
        """Return once all queued writes are committed.

        :raises LeaseLost: another process has the run.
        :raises psycopg.Error: a row that the database does not take.
        :raises Unavailable: the database could not be reached for too long.
        """
        while self._unsettled and self.failure is None:
            for thread_id in self._threads:
                self._hurry(thread_id)
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)
        self.raise_if_failed()

    async def committed_elsewhere(self, thread_id: str) -> None:
        """As :meth:`committed`, if the run has also written to another thread; else do nothing.

        The writer keeps the order of writes only within one thread.
        """
        if self._threads - {thread_id}:
            await self.committed()

    def knows_empty(self, thread_id: str) -> bool:
        """Whether it is known that nothing is stored for the thread."""
        return thread_id == self._fresh_thread

    def queued(self, thread_id: str) -> None:
        """Note that the writer has queued an operation of this run."""
        if thread_id == self._fresh_thread:
            self._fresh_thread = None
        self._unsettled += 1
        self._threads.add(thread_id)

    def settled(self, failure: BaseException | None) -> None:
        """Note the outcome of one operation of this run."""
        self._unsettled -= 1
        if failure is not None and self.failure is None:
            self.failure = failure
        if self._idle is not None and (not self._unsettled or self.failure is not None):
            self._idle.set_result(None)
            self._idle = None


class _CurrentBlock:
    """A context manager; as a generator it would take three times as long, in every run."""

    __slots__ = ("_before", "_writes")

    def __init__(self, writes: RunWrites) -> None:
        self._writes = writes

    def __enter__(self) -> RunWrites:
        self._before = _current.set(self._writes)
        return self._writes

    def __exit__(self, *_: object) -> None:
        _current.reset(self._before)


def current_run() -> RunWrites | None:
    """The run that the calling task works for; None outside of runs."""
    return _current.get()


def fail_run(run: RunWrites | None, failure: BaseException) -> None:
    """Let the run fail, if there is one: a write of it is too large.

    LangGraph goes on for a moment after a failed write. The next checkpoint would name values that
    are not stored.
    """
    if run is not None:
        run.fail(failure)
