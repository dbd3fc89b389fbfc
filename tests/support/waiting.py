"""Wait for a condition on the event loop, where other tasks go on meanwhile."""

import asyncio
from collections.abc import Callable


async def eventually(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Poll; raise TimeoutError when the deadline passes."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
