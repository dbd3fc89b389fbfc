"""User code cannot end the process: SystemExit and KeyboardInterrupt stay in the task that raised.

asyncio raises these two out of the loop, whichever task they come from; a tool that uses argparse
is enough, and the server process ends with all its runs. So tasks that are created while user code
may run, by LangGraph or by the user, are given a coroutine that turns them into
:class:`~headrace.errors.UserExit`, which stays in the task like every other exception.

What has no task, such as a callback of ``loop.call_soon``, is met in :func:`run_until_done`, by
whoever runs the loop.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import structlog

from headrace.error_text import error_message, error_name
from headrace.errors import UserExit

T = TypeVar("T")

_log = structlog.stdlib.get_logger("headrace.containment")

_EXITS = (SystemExit, KeyboardInterrupt)
#: The last is Python's own way to end a coroutine: LangGraph's take a node's for that, and wait.
_ENDINGS = (*_EXITS, GeneratorExit)

_contained: ContextVar[bool] = ContextVar("headrace_contained", default=False)


def contain() -> None:
    """Tasks that are created in this context from now on are contained, and those they create."""
    _contained.set(True)


def is_cancellation(error: BaseException) -> bool:
    """Whether somebody has cancelled the calling task; user code may raise the same by itself."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling() > 0)


def is_cancelled() -> bool:
    """Whether somebody has cancelled the calling task, whatever it was made of inside."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@contextmanager
def containing_tasks() -> Iterator[None]:
    """Let the running loop contain the tasks of contexts that ask for it.

    A task factory that the loop has already goes on making the tasks.
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
    """Run the loop until this has ended, whatever callbacks and other tasks raise out of it."""
    main = loop.create_task(coroutine)
    while True:
        try:
            return loop.run_until_complete(main)
        except _EXITS as error:
            if main.done():
                raise
            # What was ready to run beside it still is.
            _log.error("exit_refused", error=error_name(error), message=error_message(error))
        except RuntimeError as error:
            if main.done() or loop.is_closed() or loop.is_running():
                raise
            # Somebody has called stop() on the loop, which is not theirs.
            _log.error("exit_refused", error=error_name(error), message=error_message(error))


class _TaskFactory:
    """Makes tasks as ``inner`` does, or asyncio itself."""

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
    """Drives a coroutine, and lets no exit out of it.

    No ``async def`` around it: such a one would never start what is cancelled before its first
    step, and Python would warn of the coroutine inside.
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
        # What debuggers and tracebacks of tasks look at: cr_frame, cr_code, __qualname__.
        return getattr(self._inner, name)
