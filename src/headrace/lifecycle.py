"""Background tasks: named, held until they end, and started again when they fail."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, TypeVar

import structlog

from headrace.thread_pool import in_a_thread
from headrace.unavailable_errors import Unavailable

T = TypeVar("T")

_log = structlog.stdlib.get_logger("headrace.tasks")

#: A task that goes on for so long after its cancellation is cancelled again.
_CANCELLED_AGAIN_SECONDS = 5.0


async def run_in_thread(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on an event loop of its own, in a thread of its own.

    Use it for work that copies megabytes: it would block this loop, but it releases the
    interpreter's lock. A cancellation cancels the coroutine, and waits until it has ended.
    """
    inside: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None
        inside.append((asyncio.get_running_loop(), task))
        return await make()

    def run() -> T:
        with asyncio.Runner() as runner:
            return runner.run(main())

    # The calling run must not count as the owner of the thread.
    thread = in_a_thread(run)
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        for loop, task in inside:
            loop.call_soon_threadsafe(task.cancel)
        await asyncio.wait({thread})
        raise


OnFault = Callable[[str, BaseException | None], None]


@dataclass(frozen=True, slots=True)
class Restarts:
    """How a task that has ended by itself is restarted."""

    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 5.0
    #: After so many ends in a row, a vital task counts as lost.
    most: int = 8
    #: If a task has run for longer than this, its ends are counted anew.
    settled_seconds: float = 30.0

    def pause_seconds(self, ended: int) -> float:
        """The pause after end number ``ended`` in a row."""
        return min(self.longest_pause_seconds, self.first_pause_seconds * 2.0 ** min(ended - 1, 30))


class Supervision:
    """Counts how often kept tasks have ended by themselves. One per process.

    :param on_fault: called with the name of the task, and the error that ended it.
    """

    def __init__(
        self,
        on_fault: OnFault = lambda name, error: None,
        *,
        restarts: Restarts = Restarts(),
    ) -> None:
        self._on_fault = on_fault
        self._restarts = restarts
        #: By name: ends in a row, and when a vital task last counted as lost.
        self._ended: dict[str, int] = {}
        self._lost: dict[str, float] = {}

    @property
    def problem(self) -> str | None:
        """Why this process should be replaced: a vital task ends again and again. Else None."""
        settled = (
            monotonic() - self._restarts.settled_seconds - self._restarts.longest_pause_seconds
        )
        names = sorted(name for name, at in self._lost.items() if at > settled)
        return f"background tasks end again and again: {', '.join(names)}" if names else None

    def report(self, name: str, error: BaseException | None) -> None:
        """Note a fault that does not end a task. Call it from any thread."""
        self._on_fault(name, error)

    def ended(
        self, name: str, error: BaseException | None, *, lived_seconds: float, vital: bool
    ) -> float:
        """Note the end of a task that should not end.

        :returns: the pause before its restart, in seconds.
        """
        count = self._ended.get(name, 0) + 1
        if lived_seconds > self._restarts.settled_seconds:
            count = 1
        self._ended[name] = count
        pause = self._restarts.pause_seconds(count)
        self._on_fault(name, error)
        if vital and count >= self._restarts.most:
            self._lost[name] = monotonic()
        _log.warning("background_task_restarts", task=name, ended=count, pause_seconds=pause)
        return pause


class Tasks:
    """Background tasks of one owner.

    The event loop has only weak references to tasks. This object holds them, and each has a name. A
    kept task that ends before :meth:`stop` is reported and restarted. Otherwise nobody would notice
    a dead heartbeat, and clients would wait for ever for a dead watcher.
    """

    def __init__(self, supervision: Supervision | None = None) -> None:
        self._supervision = supervision or Supervision()
        self._tasks: set[asyncio.Task[Any]] = set()
        #: The timers for restarts, by name.
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._stopping = False

    def __len__(self) -> int:
        return len(self._tasks)

    def start(
        self, coroutine: Coroutine[Any, Any, T], *, name: str, context: Context | None = None
    ) -> asyncio.Task[T]:
        """Run ``coroutine`` as a task that is held until it ends.

        :param context: None: a copy of the caller's context. A timer holds its context until it is
            due, even if it was cancelled, and the context of a graph holds the graph's state.
        """
        task = asyncio.create_task(  # noqa: TID251 - the one place
            coroutine, name=name, context=context
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def keep(
        self, make: Callable[[], Coroutine[Any, Any, None]], *, name: str, vital: bool = True
    ) -> None:
        """Run the coroutine of ``make`` until :meth:`stop`. Restart it whenever it ends before.

        It may end with an exception, with a cancellation by others, or by returning.

        :param vital: the process should be replaced if the task ends again and again.
        """
        self._timers.pop(name, None)
        task = self.start(make(), name=name)
        task.add_done_callback(partial(self._start_again, make, vital, monotonic()))

    def repeat(
        self,
        work: Callable[[], Awaitable[object]],
        *,
        every_seconds: float,
        name: str,
        log: structlog.stdlib.BoundLogger,
        skipped_event: str,
        jitter: float = 0.0,
        at_once: bool = False,
    ) -> None:
        """Do ``work`` again and again until :meth:`stop`, with a pause before each round.

        If a round raises :class:`Unavailable`, ``skipped_event`` is logged with the cause, and the
        next round comes after the usual pause. After any other exception the task starts again, as
        with :meth:`keep`.

        :param jitter: each pause differs from ``every_seconds`` by up to this part of it, so that
            processes that started together do not work at the same moments. 0.3 is 30 percent.
        :param at_once: the first round does not wait for a pause.
        """

        async def pause() -> None:
            await asyncio.sleep(every_seconds * random.uniform(1 - jitter, 1 + jitter))  # noqa: S311

        async def rounds() -> None:
            if not at_once:
                await pause()
            while True:
                try:
                    await work()
                except Unavailable as fault:
                    log.warning(skipped_event, cause=fault.code)
                if self._stopping:
                    return  # A cancellation got lost in the work.
                await pause()

        self.keep(rounds, name=name, vital=False)

    async def join(self) -> None:
        """Wait until no task is left. New tasks may start meanwhile."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def stop(self) -> None:
        """Cancel all tasks and wait for them.

        A cancellation can get lost: until Python 3.12, ``asyncio.wait_for`` drops one that comes in
        the moment in which it has its answer, and drivers of databases use it. What goes on is
        cancelled again, after a time in which tasks that clean up have ended.
        """
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        while self._tasks:
            for task in set(self._tasks):
                task.cancel()
            await asyncio.wait(set(self._tasks), timeout=_CANCELLED_AGAIN_SECONDS)

    def _start_again(
        self,
        make: Callable[[], Coroutine[Any, Any, None]],
        vital: bool,
        began_at: float,
        task: asyncio.Task[Any],
    ) -> None:
        error = None if task.cancelled() else task.exception()
        if self._stopping:
            return
        name = task.get_name()
        pause = self._supervision.ended(
            name, error, lived_seconds=monotonic() - began_at, vital=vital
        )
        again = partial(self.keep, make, name=name, vital=vital)
        self._timers[name] = asyncio.get_running_loop().call_later(pause, again)


class Signal:
    """A small ``asyncio.Event``, for objects that a process has thousands of."""

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: list[asyncio.Future[bool]] | None = None

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            _settle(waiter, True)

    def clear(self) -> None:
        self._is_set = False

    async def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until it is set. False if that did not happen in time."""
        if self._is_set:
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        timer = None
        if timeout_seconds is not None:
            timer = loop.call_later(timeout_seconds, _settle, waiter, False, context=Context())
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        try:
            return await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if self._waiters is not None and waiter in self._waiters:
                self._waiters.remove(waiter)


def _settle(waiter: asyncio.Future[bool], value: bool) -> None:
    if not waiter.done():
        waiter.set_result(value)
