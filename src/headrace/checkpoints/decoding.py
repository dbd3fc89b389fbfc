"""Decodes stored values. A value is Python's own work: a message of a few bytes takes 10 us.

Large ones are decoded in a thread, so that other requests go on meanwhile; two at a time, because
threads take turns with the event loop.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

T = TypeVar("T")

#: About a thousand messages, 10 ms.
_APART_BYTES = 256 * 1024
_APART = ThreadPoolExecutor(max_workers=2, thread_name_prefix="large-state")


async def decoded(size_bytes: int, decode: Callable[[], T]) -> T:
    """What ``decode`` makes of so many stored bytes."""
    if size_bytes <= _APART_BYTES:
        return decode()
    within = partial(copy_context().run, decode)
    return await asyncio.get_running_loop().run_in_executor(_APART, within)
