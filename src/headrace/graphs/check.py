"""Loads graphs and ``http.app`` as a server would, without one and its database, in a process.

``headrace dev`` runs it (``python -m headrace.graphs.check``) beside the start of Postgres, so that
a graph that cannot be served is refused at once, and again before it reloads.
"""

import asyncio
import sys

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore

from headrace.errors import StartupRefusal
from headrace.graphs.custom_app import load_custom_app, load_served_app
from headrace.graphs.manifest import find_manifest
from headrace.graphs.registry import GraphRegistry
from headrace.graphs.sources import sources_from
from headrace.settings import Settings


class MemorySaver(InMemorySaver):
    """Stands in for the server's saver, which has ``setup`` for factories that call it."""

    async def setup(self) -> None:
        """Does nothing."""


class MemoryStore(InMemoryStore):
    """Stands in for the server's store."""

    async def setup(self) -> None:
        """Does nothing."""


async def check(settings: Settings) -> None:
    """:raises StartupRefusal: as the server would."""
    if settings.app:
        load_served_app(settings.app)
        return
    manifest = find_manifest(settings)
    if manifest is not None:
        load_custom_app(manifest)
    registry = await GraphRegistry.open(
        sources_from(settings), checkpointer=MemorySaver(), store=MemoryStore()
    )
    await registry.close()


if __name__ == "__main__":
    try:
        asyncio.run(check(Settings()))
    except StartupRefusal as refusal:
        sys.exit(str(refusal))
