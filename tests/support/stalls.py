"""How long the event loop had no turn."""

import asyncio
import time
from contextlib import asynccontextmanager

_TICK = 0.01


@asynccontextmanager
async def longest_stall():
    """The longest time in which the event loop had no turn."""
    found = [0.0]

    async def tick():
        while True:
            before = time.perf_counter()
            await asyncio.sleep(_TICK)
            found[0] = max(found[0], time.perf_counter() - before - _TICK)

    ticking = asyncio.create_task(tick())
    try:
        yield found
    finally:
        ticking.cancel()
