"""Two server processes' worth of objects on one database and one event loop."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pydantic import SecretStr

from headrace.assistants.service import AssistantService
from headrace.crons.service import CronService
from headrace.db.pool import SharedPool
from headrace.edge.state import State
from headrace.following.thread_watcher import ThreadWatcher
from headrace.graphs.registry import GraphRegistry
from headrace.graphs.sources import sources_from_objects
from headrace.health.service import HealthService
from headrace.notices.notifier import PostgresNotifier
from headrace.observability.metrics import Metrics
from headrace.protocol.commands import ThreadCommands
from headrace.protocol.streams import ProtocolStreams
from headrace.runs.service import RunService
from headrace.runs.thread_stream import ThreadStreams
from headrace.server.drain import Drain
from headrace.server.lifespan import serving
from headrace.settings import Settings
from headrace.threads.removal import ThreadRemoval
from headrace.threads.service import ThreadService
from headrace.threads.state_service import StateService
from headrace.worker.worker import Worker


class Process:
    """What the tests use of one process."""

    def __init__(self, state: State) -> None:
        self.pool = state.get(SharedPool)
        self.metrics = state.get(Metrics)
        self.graphs = state.get(GraphRegistry)
        self.worker = state.get(Worker)
        self.thread_watcher = state.get(ThreadWatcher)
        self.notifier: Any = state.find(PostgresNotifier)
        self.assistants = state.get(AssistantService)
        self.crons = state.get(CronService)
        self.runs = state.get(RunService)
        self.threads = state.get(ThreadService)
        self.thread_removal = state.get(ThreadRemoval)
        self.thread_streams = state.get(ThreadStreams)
        self.protocol_commands = state.get(ThreadCommands)
        self.protocol_streams = state.get(ProtocolStreams)
        self.states = state.get(StateService)
        self.health = state.get(HealthService)
        self.drain = state.get(Drain)


@asynccontextmanager
async def open_states(
    url: str, graphs: dict[str, Any], *, count: int = 2, **groups: dict[str, Any]
) -> AsyncIterator[list[Process]]:
    """Each with a lease, a pool and a listener of its own."""
    settings = Settings.model_validate(
        {"server": {"grace_seconds": 0}, **groups, "database": {"url": SecretStr(url)}}
    )
    sources = sources_from_objects(graphs)
    async with AsyncExitStack() as stack:
        yield [
            Process(await stack.enter_async_context(serving(settings, sources)))
            for _ in range(count)
        ]
