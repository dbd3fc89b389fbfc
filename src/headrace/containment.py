"""Containment: SystemExit and KeyboardInterrupt of user code cannot end the process.

asyncio raises these two out of the event loop, from any task. A tool that uses argparse would
end the server process with all its runs. So each task that is created while user code may run, by
LangGraph or by the user, gets a coroutine that turns them into :class:`~headrace.errors.UserExit`,
which stays in the task like every other exception.

A callback of ``loop.call_soon`` has no task. :func:`run_until_done` handles its exits.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import CoroutineType
from typing import Any, TypeVar, cast

import structlog

from headrace.error_text import error_message, error_name
from headrace.errors import UserExit

T = TypeVar("T")

_log = structlog.stdlib.get_logger("headrace.containment")

_EXITS = (SystemExit, KeyboardInterrupt)

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
        self, loop: asyncio.AbstractEventLoop, given: Any, **options: Any
    ) -> asyncio.Task[Any]:
        # The first check is quick, and true of each ``async def``.
        if _contained.get() and (type(given) is CoroutineType or isinstance(given, Coroutine)):
            given = _wrapped(given)
        if self.inner is not None:
            return cast("asyncio.Task[Any]", self.inner(loop, given, **options))
        return asyncio.Task(given, loop=loop, **options)


class _Held:
    """The coroutine inside a wrapper, which closes it if it has never begun.

    A task that is cancelled before its first step drops the wrapper without running it. The
    coroutine inside would end without a start, and Python would warn about that.
    """

    __slots__ = ("coroutine",)

    def __init__(self, given: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = given

    def __del__(self) -> None:
        self.coroutine.close()


def _wrapped(given: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
    """The coroutine for a task. It begins with the task and not before: anyio cancels only tasks
    that have begun, so that each comes to its first ``await``.
    """
    wrapper: Any = _containing(_Held(given))
    # For logs and debuggers.
    wrapper.__qualname__ = getattr(given, "__qualname__", "unnamed")
    return cast("Coroutine[Any, Any, T]", wrapper)


async def _containing(held: _Held) -> Any:
    """Run a coroutine, and turn its exits into :class:`UserExit`."""
    try:
        return await held.coroutine
    except _EXITS as error:
        raise UserExit(error) from error
    except GeneratorExit as error:
        # User code may raise it too. Python ends coroutines with it, so LangGraph would misread it
        # and wait.
        if error.__traceback__ is None or error.__traceback__.tb_next is None:
            # It comes from this frame: Python closes the wrapper.
            raise
        raise UserExit(error) from error
