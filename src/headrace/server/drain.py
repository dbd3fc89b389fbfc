"""How a process stops serving: the order of the steps, and how long each may take.

After the signal the process is *draining* at once, and goes on serving everything for the drain
delay. Then it reads the status slots of the pod:

- Other processes serve (only this process was told to stop, or HUP started new ones): it closes its
  listeners, so that new connections go to the others. No request is refused.
- Other processes start: it goes on serving until they serve, but for at most half the grace.
- No other process will serve (the whole pod stops): the sockets stay open, so that probes read 503
  from /readyz instead of a refused connection, and new runs are refused with ``Retry-After``.

Then its own runs and their streams have the rest of the grace. Runs that are not finished by then
go back to the queue, and another process goes on with them. ``server.uvicorn`` and the lifespan
close everything else.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
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


class Drain:
    """The drain of one process. ``begin`` and ``drain`` may be called twice.

    :param following: the followers of runs and threads of other processes. The drain ends their
        streams: clients can go on at another process.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        board: StatusBoard,
        worker: Worker,
        following: Sequence[Following | ThreadWatcher] = (),
    ) -> None:
        self._settings = settings
        self._board = board
        self._worker = worker
        self._following = following
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

    async def drain(self, *, close_listeners: Callable[[], Awaitable[None] | None]) -> None:
        """Go on serving, then finish. On return this process has no run and no stream of a run
        left.

        :param close_listeners: takes no more connections and closes idle ones.
        """
        if self._finished:
            return
        self.begin()
        await self._wait(self._settings.drain_delay_seconds)
        if await self._others_take_over():
            _log.info("listeners_closed", why="other processes serve")
            closing = close_listeners()
            if closing is not None:
                await closing
        self._worker.refuse_new()
        # Clients that follow runs of other processes can follow them from another process as well.
        for following in self._following:
            following.release()
        await self._finish()
        self._finished = True
        _log.info("drain_ended", seconds=round(monotonic() - self._start, 2))

    @property
    def _start(self) -> float:
        assert self._began_at is not None
        return self._began_at

    async def _others_take_over(self) -> bool:
        """Whether another process serves, or will within half the grace."""
        settled_at = monotonic() + _SETTLE_SECONDS
        patience_ends = self._start + max(_SETTLE_SECONDS, self._settings.grace_seconds / 2)
        while True:
            states = {slot.state for slot in self._board.others()}
            now = monotonic()
            if self._hurried.is_set() or not states - {"draining"}:
                return False
            if "serving" in states and now >= settled_at:
                return True
            if "serving" not in states and now >= patience_ends:
                return False
            await self._wait(_LOOK_SECONDS)

    async def _finish(self) -> None:
        """Give the worker the rest of the grace, or none after a second signal."""
        ends_at = self._start + self._settings.drain_delay_seconds + self._settings.grace_seconds
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
