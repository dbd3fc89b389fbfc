"""Wait for a condition: on the event loop, or in a test without one."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any


async def eventually(condition: Callable[[], Any], *, seconds: float = 10.0) -> Any:
    """Poll until ``condition`` holds, while other tasks of the loop go on; returns what it said.

    ``condition`` may be a coroutine function.

    :raises TimeoutError: the deadline passed.
    """
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.005)


def wait_until(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Poll what happens in other processes.

    :raises AssertionError: the deadline passed.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)
