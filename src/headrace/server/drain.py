"""How a process stops being one of those that serve: in which order, and for how long.

When a signal comes, the process is *draining* at once, and goes on serving everything for the drain
delay. Then it looks at the status slots of the pod:

- others serve (one worker was told, or HUP put new ones in place): its listeners close, so that new
  connections go to them, and nobody is refused anything;
- others start: it goes on serving until they serve, for at most half the grace;
- nobody else will (the whole pod stops): the sockets stay open, so that probes read 503 from
  /readyz instead of a refused connection, and new runs are refused with ``Retry-After``.

Its own runs and their streams then have what is left of the grace. Runs that are left after it are
released to the queue, and another process goes on with them. ``server.process`` and the lifespan
close the rest.
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

#: When all processes are told to stop they learn of it within milliseconds of each other; this long
#: a process waits for the others' word before it believes that they go on.
_SETTLE_SECONDS = 0.5
_LOOK_SECONDS = 0.05


class Drain:
    """The drain of one process. ``begin`` and ``drain`` may be called twice.

    :param following: what follows runs and threads of other processes; it is released.
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
        """``drain`` takes no longer: delay, grace, and a margin for releasing what is left."""
        settings = self._settings
        return (
            settings.drain_delay_seconds + settings.grace_seconds + settings.shutdown_margin_seconds
        )

    @property
    def closing_seconds(self) -> float:
        """What remains after ``drain`` for sockets, lifespan and pool."""
        return self._settings.shutdown_margin_seconds

    def begin(self) -> None:
        """Publish that this process drains. Quick and synchronous: signal callbacks call it."""
        if self._began_at is None:
            self._began_at = monotonic()
            self._board.set_state("draining")
            _log.info("drain_began", grace_seconds=self._settings.grace_seconds)

    def hurry(self) -> None:
        """Cut delay and grace: somebody asked twice."""
        if not self._hurried.is_set():
            self._hurried.set()
            _log.warning("drain_hurried")

    async def drain(self, *, close_listeners: Callable[[], Awaitable[None] | None]) -> None:
        """Serve on, then finish; returns when this process has no run and no stream of one left.

        ``close_listeners`` stops taking connections and lets go of idle ones.
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
        """Give the worker the rest of the grace, or none once somebody asked twice."""
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
