"""What lives long: the start/stop contract, and tasks that are named, held and supervised."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Service(Protocol):
    """Something with a lifetime.

    ``start`` returns when the service is usable. ``stop`` may be called twice, or without a start.
    """

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


async def aside(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on an event loop of its own, in a thread of its own.

    For what copies megabytes outside of the interpreter's lock and would hold up everybody else on
    this loop. Cancellation reaches the coroutine, and returns once it has ended.
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

    thread = asyncio.get_running_loop().run_in_executor(None, run)
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        for loop, task in inside:
            loop.call_soon_threadsafe(task.cancel)
        await asyncio.wait({thread})
        raise


class Tasks:
    """Background tasks of one owner.

    The event loop keeps only weak references to tasks; this keeps strong ones, gives each a name
    and reports a supervised task that ends before it was asked to: a dead heartbeat must not go
    unnoticed.
    """

    def __init__(self, on_fault: Callable[[str, BaseException | None], None] | None = None) -> None:
        self._on_fault = on_fault
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._tasks)

    def start(
        self, coroutine: Coroutine[Any, Any, T], *, name: str, supervised: bool = False
    ) -> asyncio.Task[T]:
        """Run ``coroutine`` as a task that is held until it ends."""
        task = asyncio.create_task(coroutine, name=name)  # noqa: TID251 - the one place
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if supervised:
            task.add_done_callback(self._report_fault)
        return task

    async def join(self) -> None:
        """Wait until no task is left; new ones may be added meanwhile."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def stop(self) -> None:
        """Cancel what still runs and wait for it."""
        self._stopping = True
        for task in set(self._tasks):
            task.cancel()
        await self.join()

    def _report_fault(self, task: asyncio.Task[Any]) -> None:
        if self._stopping or self._on_fault is None or task.cancelled():
            return
        self._on_fault(task.get_name(), task.exception())


class Signal:
    """``asyncio.Event`` for what there are thousands of: weighs nothing while nobody waits."""

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
        """Return True once it is set; False when it was not in time."""
        if self._is_set:
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        timer = None
        if timeout_seconds is not None:
            timer = loop.call_later(timeout_seconds, _settle, waiter, False)
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
