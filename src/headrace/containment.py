"""Containment: SystemExit and KeyboardInterrupt of user code cannot end the process.

asyncio raises these two out of the event loop, from any task. A tool that uses argparse would
end the server process with all its runs. So each task that is created while user code may run, by
LangGraph or by the user, gets a coroutine that turns them into
:class:`~headrace.user_exit.UserExit`, which stays in the task like every other exception.

A callback of ``loop.call_soon`` has no task. :func:`run_until_done` handles its exits.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import structlog

from headrace.error_text import error_message, error_name
from headrace.user_exit import UserExit

T = TypeVar("T")

_log = structlog.stdlib.get_logger("headrace.containment")

_EXITS = (SystemExit, KeyboardInterrupt)
#: User code may raise GeneratorExit too. Python uses it to end coroutines, so LangGraph would
#: misread it and wait.
_ENDINGS = (*_EXITS, GeneratorExit)

_contained: ContextVar[bool] = ContextVar("headrace_contained", default=False)


def contain() -> None:
    """Contain all tasks that are created in this context from now on, and the tasks they create."""
    _contained.set(True)


def is_cancellation(error: BaseException) -> bool:
    """Whether the error comes from a cancellation of this task.

    False for a CancelledError that user code raises itself.
    """
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling() > 0)


def is_cancelled() -> bool:
    """Whether this task was cancelled, even if user code has caught the CancelledError."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@contextmanager
def containing_tasks() -> Iterator[None]:
    """Install the task factory that contains tasks in the running loop.

    If the loop already has a task factory, that factory still creates the tasks.
    """
    loop = asyncio.get_running_loop()
    present = loop.get_task_factory()
    factory = present if isinstance(present, _TaskFactory) else _TaskFactory(present)
    loop.set_task_factory(factory)
    factory.uses += 1
    try:
        yield
    finally:
        factory.uses -= 1
        if not factory.uses and loop.get_task_factory() is factory:
            loop.set_task_factory(factory.inner)


def run_until_done(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run the loop until the coroutine has ended, whatever callbacks and other tasks raise."""
    main = loop.create_task(coroutine)
    while True:
        try:
            return loop.run_until_complete(main)
        except _EXITS as error:
            if main.done():
                raise
            # The loop goes on with all other ready tasks.
            _log.error("exit_refused", error=error_name(error), message=error_message(error))
        except RuntimeError as error:
            if main.done() or loop.is_closed() or loop.is_running():
                raise
            # User code has called stop() on the loop.
            _log.error("exit_refused", error=error_name(error), message=error_message(error))


class _TaskFactory:
    """Creates tasks with ``inner``; if that is None, as asyncio does."""

    def __init__(self, inner: Callable[..., Any] | None) -> None:
        self.inner = inner
        self.uses = 0

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        if _contained.get() and isinstance(coroutine, Coroutine):
            coroutine = _Contained(coroutine)
        if self.inner is not None:
            return cast("asyncio.Task[Any]", self.inner(loop, coroutine, **options))
        return asyncio.Task(coroutine, loop=loop, **options)


class _Contained(Coroutine[Any, Any, T]):
    """Drives a coroutine and turns its exits into :class:`UserExit`.

    Not an ``async def`` wrapper: if that is cancelled before its first step, it never starts the
    coroutine inside, and Python warns about it.
    """

    __slots__ = ("_inner",)

    def __init__(self, inner: Coroutine[Any, Any, T]) -> None:
        self._inner = inner

    def send(self, value: Any) -> Any:
        try:
            return self._inner.send(value)
        except _ENDINGS as error:
            raise UserExit(error) from error

    def throw(self, *given: Any) -> Any:
        try:
            return self._inner.throw(*given)
        except _ENDINGS as error:
            raise UserExit(error) from error

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._inner.__await__()

    def __getattr__(self, name: str) -> Any:
        # Debuggers and tracebacks of tasks read cr_frame, cr_code and __qualname__.
        return getattr(self._inner, name)
