"""How a process stops serving: the order of the steps, and how long each may take.

After the signal the process is *draining* at once, and tells other processes not to count on it. It
goes on serving everything for the drain delay. What comes then depends on who serves:

- Other processes of the pod serve (only this process was told to stop, or HUP started new ones): it
  does not wait for the delay. It closes its listeners, so that new connections go to the others.
- Other processes of the pod start: it goes on serving until they serve, but for at most half the
  grace.
- Processes of other pods execute its graphs: it closes its listeners after the delay.
- Nobody else serves: the sockets stay open, so that probes read 503 from /readyz, not a refused
  connection, and new runs are refused with ``Retry-After``.

Where there is a successor, nothing is refused: runs that reach this process on open connections are
queued, each answer ends its connection, and clients are served until their runs have ended.

Runs stop at the ends of their steps and go back to the queue: another process goes on with them.
Steps have the rest of the grace; those that are left are cut. ``server.uvicorn`` and the lifespan
close everything else.
"""

import asyncio
import contextlib
from collections.abc import Callable
from time import monotonic

import structlog

from headrace.following.following import Following
from headrace.following.thread_watcher import ThreadWatcher
from headrace.lifecycle import Tasks
from headrace.observability.slots import StatusBoard
from headrace.setting_groups import ServerSettings
from headrace.worker.worker import Worker

_log = structlog.stdlib.get_logger("headrace.drain")

#: When the whole pod stops, its processes get the signal within milliseconds of each other. A
#: process waits this long before it believes that the others go on.
_SETTLE_SECONDS = 0.5
_LOOK_SECONDS = 0.05
_LEAVE_SECONDS = 0.5
#: How long the database may take to tell which processes can go on.
_RETIRE_SECONDS = 1.0
#: How long clients may leave connections open on which they send nothing. If one were closed at
#: once, a request on its way would be lost.
_IDLE_SECONDS = 5.0


class Drain:
    """The drain of one process. ``begin`` and ``drain`` may be called twice.

    :param following: the followers of runs of other processes. They are served until the runs have
        ended, or the grace is over. Then clients can go on at another process.
    :param threads: the followers of threads. Their streams have no end, so the drain ends them.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        board: StatusBoard,
        worker: Worker,
        following: Following | None = None,
        threads: ThreadWatcher | None = None,
    ) -> None:
        self._settings = settings
        self._board = board
        self._worker = worker
        self._following = following
        self._threads = threads
        self._closed_at: float | None = None
        self._began_at: float | None = None
        self._hurried = asyncio.Event()
        self._finished = False

    @property
    def draining(self) -> bool:
        return self._began_at is not None

    @property
    def bound_seconds(self) -> float:
        """The longest time that ``drain`` takes: delay, grace, and a margin for releasing runs."""
        settings = self._settings
        return (
            settings.drain_delay_seconds + settings.grace_seconds + settings.shutdown_margin_seconds
        )

    @property
    def closing_seconds(self) -> float:
        """The time left after ``drain`` for sockets, lifespan and pool."""
        return self._settings.shutdown_margin_seconds

    def begin(self) -> None:
        """Publish that this process drains. Quick and synchronous, because signal callbacks call
        it.
        """
        if self._began_at is None:
            self._began_at = monotonic()
            self._board.set_state("draining")
            _log.info("drain_began", grace_seconds=self._settings.grace_seconds)

    def hurry(self) -> None:
        """Skip the rest of delay and grace: a second signal came."""
        if not self._hurried.is_set():
            self._hurried.set()
            _log.warning("drain_hurried")

    async def drain(
        self,
        *,
        close_listeners: Callable[[], None],
        open_connections: Callable[[], int] = lambda: 0,
    ) -> None:
        """Go on serving, then finish. On return this process has no run and no stream of a run
        left.

        :param close_listeners: takes no more connections; from then on each answer ends its
            connection.
        :param open_connections: how many connections are open.
        """
        if self._finished:
            return
        self.begin()
        await self._retire()
        if why := await self._successor():
            _log.info("listeners_closed", why=why)
            self._closed_at = monotonic()
            close_listeners()
            # A successor that has started meanwhile takes the runs that are refused here from now.
            await self._retire()
        self._worker.refuse_new()
        if self._threads is not None:
            self._threads.release()
        await self._finish()
        await self._clients_leave(open_connections)
        self._worker.refuse_all()
        if self._following is not None:
            self._following.release()
        self._finished = True
        _log.info("drain_ended", seconds=round(monotonic() - self._start, 2))

    @property
    def _start(self) -> float:
        assert self._began_at is not None
        return self._began_at

    @property
    def _ends_at(self) -> float:
        return self._start + self._settings.drain_delay_seconds + self._settings.grace_seconds

    async def _retire(self) -> None:
        """Tell other processes that this one drains; the drain goes on without a database too."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RETIRE_SECONDS):
                await self._worker.retire()

    async def _successor(self) -> str:
        """Who goes on serving, or will within half the grace; empty: nobody."""
        settled_at = monotonic() + _SETTLE_SECONDS
        delayed_until = self._start + self._settings.drain_delay_seconds
        patience_ends = self._start + max(_SETTLE_SECONDS, self._settings.grace_seconds / 2)
        while not self._hurried.is_set():
            states = {slot.state for slot in self._board.others()}
            now = monotonic()
            if "serving" in states and now >= settled_at:
                return "other processes serve"
            starting = states - {"draining", "serving"} and now < patience_ends
            if "serving" not in states and not starting and now >= delayed_until:
                if not self._may_have_successor_elsewhere:
                    return ""
                if now >= settled_at:
                    # Processes that were told at the same time have retired by now.
                    await self._retire()
                    return "other pods serve" if self._may_have_successor_elsewhere else ""
            await self._wait(_LOOK_SECONDS)
        return ""

    @property
    def _may_have_successor_elsewhere(self) -> bool:
        """Whether a process of another pod may answer the requests that come here.

        Where processes that answer requests execute no runs, those that do answer no requests.
        """
        return self._worker.executes and self._worker.has_successor

    async def _clients_leave(self, open_connections: Callable[[], int]) -> None:
        """Wait until runs of other processes have ended for their clients here, and until clients
        have left their idle connections; at most for the rest of the grace.
        """
        while monotonic() < self._ends_at and not self._hurried.is_set():
            following = self._following is not None and self._following.watching > 0
            idle = (
                self._closed_at is not None
                and monotonic() < self._closed_at + _IDLE_SECONDS
                and open_connections() > 0
            )
            if following:
                # Also the next process may have to go.
                await self._retire()
            if not idle and not (following and self._worker.has_successor):
                return
            await self._wait(_LEAVE_SECONDS)

    async def _finish(self) -> None:
        """Give the worker the rest of the grace, or none after a second signal."""
        ends_at = self._ends_at
        tasks = Tasks()
        finishing = tasks.start(
            self._worker.finish(max(0.0, ends_at - monotonic())), name="drain-finish"
        )
        hurrying = tasks.start(self._hurried.wait(), name="drain-hurry")
        try:
            await asyncio.wait({finishing, hurrying}, return_when=asyncio.FIRST_COMPLETED)
            cut = not finishing.done()
        finally:
            await tasks.stop()
        if cut:
            await self._worker.finish(0.0)
        else:
            finishing.result()

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()
