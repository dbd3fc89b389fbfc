"""Two server processes' worth of objects on one database and one event loop."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pydantic import SecretStr

from headrace.graphs.sources import sources_from_objects
from headrace.server.lifespan import serving
from headrace.server.state import State
from headrace.settings import Settings


@asynccontextmanager
async def open_states(
    url: str, graphs: dict[str, Any], *, count: int = 2, **groups: dict[str, Any]
) -> AsyncIterator[list[State]]:
    """Each with a lease, a pool and a listener of its own."""
    settings = Settings.model_validate(
        {"server": {"grace_seconds": 0}, **groups, "database": {"url": SecretStr(url)}}
    )
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(serving(settings, sources_from_objects(graphs)))
            for _ in range(count)
        ]
