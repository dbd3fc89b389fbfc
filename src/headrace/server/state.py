"""Everything a process has while it serves, typed; built and closed by the lifespan."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.assistants.graph_service import GraphService
from headrace.assistants.service import AssistantService
from headrace.auth.api_keys import ApiKeys
from headrace.chat.service import ChatService
from headrace.checkpoints.saver import UpstreamSaver
from headrace.checkpoints.store import Store
from headrace.db.pool import SharedPool
from headrace.edge.body_memory import BodyMemory
from headrace.edge.gates import RequestGates
from headrace.graphs.http_entry import HttpEntry
from headrace.graphs.registry import GraphRegistry
from headrace.health.service import HealthService
from headrace.observability.metrics import Metrics
from headrace.runs.service import RunService
from headrace.runs.thread_stream import ThreadStreams
from headrace.server.drain import Drain
from headrace.settings import Settings
from headrace.store_items.service import StoreService
from headrace.threads.listing import ThreadListing
from headrace.threads.of_assistant import DeleteThreads
from headrace.threads.removal import ThreadRemoval
from headrace.threads.service import ThreadService
from headrace.threads.state_service import StateService
from headrace.worker.worker import Worker


@dataclass(frozen=True, slots=True)
class State:
    """Reached by endpoints as ``request.state.headrace``."""

    settings: Settings
    #: What ``langgraph.json`` says of HTTP.
    http: HttpEntry
    #: The rooms of the API that are served; see :mod:`headrace.server.rooms`.
    rooms: frozenset[str]
    metrics: Metrics
    pool: SharedPool
    engine: AsyncEngine
    saver: UpstreamSaver
    store: Store
    store_items: StoreService
    graphs: GraphRegistry
    assistants: AssistantService
    assistant_graphs: GraphService
    threads: ThreadService
    thread_listing: ThreadListing
    thread_removal: ThreadRemoval
    delete_threads_of: DeleteThreads
    states: StateService
    thread_streams: ThreadStreams
    runs: RunService
    chat: ChatService
    health: HealthService
    #: Raises where the database does not answer.
    ask_database: Callable[[], Awaitable[None]]
    api_keys: ApiKeys
    places: RequestGates
    body_memory: BodyMemory
    worker: Worker
    #: Awaited by the server process before it closes its sockets.
    drain: Drain
