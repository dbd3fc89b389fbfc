"""The run engine of a process with a real graph and its own lease, without a server around it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pydantic import SecretStr

from headrace.graphs.sources import sources_from_objects
from headrace.server.resources import Entries, open_resources
from headrace.server.run_engine import start_run_engine
from headrace.settings import Settings
from tests.support.graphs.graphs import make_slow

#: Of a run of its graph.
KWARGS: dict[str, Any] = {
    "input": {"seconds": 0.3},
    "command": None,
    "config": {"configurable": {}},
    "context": {},
    "stream_mode": ["values"],
    "interrupt_before": None,
    "interrupt_after": None,
    "temporary": False,
    "subgraphs": False,
    "resumable": False,
    "durability": "sync",
}


@asynccontextmanager
async def open_worker(
    url: str,
    *,
    graph: Any = None,
    groups: Any = None,
    share: Any = 1.0,
    max_queued_runs: Any = 1000,
    **changes: Any,
) -> AsyncIterator[Any]:
    """A process's worker as the lifespan starts it, without notices.

    :param graph: its graph ``agent``; ``make_slow`` if None.
    :param groups: settings of other groups.
    :param changes: to the settings of the worker.
    """
    settings = Settings.model_validate(
        {
            # With two keys there may be several callers, who share the places.
            "api_keys": "one-key-is-long-enough,another-key-is-long-enough",
            "callers": {"share": share, "max_queued_runs": max_queued_runs},
            "database": {"url": SecretStr(url), "pool_max": 6},
            "events": {"notices": "off"},
            "worker": changes,
            **(groups or {}),
        }
    )
    async with AsyncExitStack() as stack:
        resources = await open_resources(
            settings,
            sources_from_objects({"agent": graph or make_slow()}),
            Entries.of(None, settings.retention),
            stack,
        )
        engine = await start_run_engine(resources, stack)
        yield engine.worker
