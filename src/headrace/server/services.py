"""The services of a process, which endpoints call, on top of its resources and run engine."""

from dataclasses import dataclass

import structlog

from headrace.a2a_door.service import A2aService
from headrace.assistants.graph_service import GraphService
from headrace.assistants.repository import AssistantRepository
from headrace.assistants.service import AssistantService
from headrace.chat.service import ChatService
from headrace.crons.due_repository import DueCronRepository
from headrace.crons.firing import CronFiring
from headrace.crons.repository import CronRepository
from headrace.crons.service import CronService
from headrace.db.receipts import Receipts
from headrace.following.following import Following
from headrace.graphs.descriptions import GraphDescriptions
from headrace.graphs.input_fields import InputFields
from headrace.graphs.manifest import chat_graph
from headrace.idempotency.service import IdempotencyService
from headrace.mcp_door.service import McpService
from headrace.openai_door.service import OpenAIService
from headrace.protocol.commands import ThreadCommands
from headrace.protocol.streams import ProtocolStreams
from headrace.request_limits import RequestLimits
from headrace.runs.repository import RunRepository
from headrace.runs.retention import RunSweeper
from headrace.runs.run_requests import RunRequests
from headrace.runs.run_traces import RunTraces
from headrace.runs.service import RunService
from headrace.runs.thread_stream import ThreadStreams
from headrace.runs.timeline_repository import TimelineRepository
from headrace.runs.timeline_service import TimelineService
from headrace.server.resources import Resources
from headrace.server.run_engine import RunEngine
from headrace.states.reader import StateReader
from headrace.store_items.service import StoreService
from headrace.threads.copies import ThreadCopies
from headrace.threads.listing import ThreadListing
from headrace.threads.removal import ThreadRemoval
from headrace.threads.repository import ThreadRepository
from headrace.threads.retention import RetentionSweeper
from headrace.threads.run_stops import RunStops
from headrace.threads.search_repository import ThreadSearchRepository
from headrace.threads.service import ThreadService
from headrace.threads.state_repository import StateRepository
from headrace.threads.state_service import StateService
from headrace.threads.updates import StateUpdates
from headrace.usage.repository import UsageRepository
from headrace.usage.retention import UsageSweeper

_log = structlog.stdlib.get_logger("headrace.server")


@dataclass(frozen=True, slots=True)
class Services:
    assistants: AssistantService
    assistant_graphs: GraphService
    threads: ThreadService
    thread_listing: ThreadListing
    thread_removal: ThreadRemoval
    states: StateService
    thread_streams: ThreadStreams
    store_items: StoreService
    following: Following
    runs: RunService
    timelines: TimelineService
    crons: CronService
    chat: ChatService
    openai_door: OpenAIService
    mcp_door: McpService
    a2a_door: A2aService
    protocol_commands: ThreadCommands
    protocol_streams: ProtocolStreams


async def start_services(resources: Resources, engine: RunEngine) -> Services:
    """Build the services, make each graph's first assistant, and start the sweepers of old rows."""
    pool, registry, sessions = resources.pool, resources.registry, resources.sessions
    settings, metrics = resources.settings, resources.metrics
    memory = resources.answer_memory
    limits = RequestLimits(settings.requests)
    handlers = resources.handlers
    assistants = AssistantService(
        AssistantRepository(
            sessions,
            Receipts(pool),
            list_timeout_seconds=settings.requests.list_timeout_seconds,
        ),
        registry.ids(),
        memory,
        limits,
        handlers,
    )
    await assistants.create_system(registry.descriptions())
    keys = IdempotencyService(
        sessions,
        settings.idempotency,
        away_timeout_seconds=settings.database.away_timeout_seconds,
        count=metrics.http.count_keyed_request,
    )
    keys.start(resources.tasks)
    _start_usage_sweeper(resources)
    states = StateReader(registry, resources.saver, memory)
    updates = StateUpdates(
        pool,
        resources.writer,
        resources.saver,
        registry,
        timeout_seconds=settings.requests.change_timeout_seconds,
    )
    thread_rows = ThreadRepository(sessions, pool, resources.writer, resources.thread_reader)
    copies = ThreadCopies(pool, resources.writer)
    threads = ThreadService(thread_rows, states, keys, updates, copies, limits)
    state_service = StateService(threads, states, StateRepository(pool), updates, limits)
    following = Following(engine.watcher, states, engine.reader_budget)
    stops = RunStops(engine.worker, following, thread_rows)
    repository = RunRepository(sessions)
    requests = RunRequests(
        repository,
        threads,
        registry,
        resources.writer,
        states,
        limits,
        engine.webhooks.policy,
        handlers,
    )
    runs = RunService(
        repository,
        assistants,
        threads,
        engine.worker,
        following,
        stops,
        keys,
        requests,
        RunTraces(repository, resources.tracer),
        resources.tasks,
        away_timeout_seconds=settings.database.away_timeout_seconds,
    )
    CronFiring(
        DueCronRepository(pool),
        runs,
        engine.worker,
        engine.notifier,
        settings.crons,
        metrics.crons,
        resources.entries.http.configurable_headers,
    ).start(resources.tasks)
    search = ThreadSearchRepository(
        pool,
        timeout_seconds=settings.database.transaction_timeout_seconds,
        statement_timeout_seconds=settings.requests.list_timeout_seconds,
    )
    descriptions = GraphDescriptions(registry)
    inputs, graphs = InputFields(descriptions), GraphService(assistants, descriptions)
    chat_graph_id = chat_graph(registry.ids(), settings.chat_graph)
    return Services(
        assistants=assistants,
        assistant_graphs=graphs,
        threads=threads,
        thread_listing=ThreadListing(search, threads, memory, limits),
        thread_removal=_build_removal(resources, stops, search),
        states=state_service,
        thread_streams=ThreadStreams(
            engine.thread_watcher,
            following,
            state_service,
            settings.events,
            metrics,
            heartbeat_seconds=settings.server.ping_seconds,
        ),
        store_items=StoreService(resources.store, settings.store, memory, limits),
        following=following,
        runs=runs,
        timelines=TimelineService(
            TimelineRepository(pool, timeout_seconds=settings.requests.list_timeout_seconds)
        ),
        crons=CronService(
            CronRepository(sessions, list_timeout_seconds=settings.requests.list_timeout_seconds),
            assistants,
            threads,
            requests,
            keys,
            engine.notifier,
            memory,
            limits,
            settings.crons,
            handlers,
        ),
        chat=ChatService(runs, threads, inputs, chat_graph_id, handlers),
        openai_door=OpenAIService(runs, assistants, registry, inputs, handlers),
        a2a_door=A2aService(runs, assistants, inputs, chat_graph_id, handlers),
        mcp_door=McpService(runs, assistants, graphs, registry, handlers),
        protocol_commands=ThreadCommands(
            runs, threads, engine.thread_watcher, engine.event_log, handlers
        ),
        protocol_streams=ProtocolStreams(
            engine.thread_watcher,
            following,
            engine.worker,
            settings.events,
            metrics,
            heartbeat_seconds=settings.server.ping_seconds,
        ),
    )


def _build_removal(
    resources: Resources, stops: RunStops, search: ThreadSearchRepository
) -> ThreadRemoval:
    pool, metrics, ttl = resources.pool, resources.metrics, resources.entries.thread_ttl
    removal = ThreadRemoval(
        pool,
        resources.writer,
        resources.saver,
        stops,
        search,
        count_runs=metrics.retention.count_expired_runs,
    )
    retention = resources.settings.retention
    _log.info(
        "retention_read",
        thread_minutes=ttl.default_ttl,
        thread_strategy=ttl.strategy,
        run_minutes=retention.run_minutes or None,
        store_minutes=resources.entries.store_ttl.default_ttl,
    )
    threads = RetentionSweeper(pool, removal, ttl, count=metrics.retention.count_expired_threads)
    threads.start(resources.tasks)
    if retention.run_minutes:
        ended = RunSweeper(
            pool,
            keep_seconds=retention.run_minutes * 60,
            interval_seconds=ttl.sweep_interval_minutes * 60,
            limit=ttl.sweep_limit,
            count=metrics.retention.count_expired_runs,
        )
        ended.start(resources.tasks)
    return removal


def _start_usage_sweeper(resources: Resources) -> None:
    ttl, keep_days = resources.entries.thread_ttl, resources.settings.usage.keep_days
    if keep_days:
        sweeper = UsageSweeper(
            UsageRepository(resources.pool),
            keep_seconds=keep_days * 86_400,
            interval_seconds=ttl.sweep_interval_minutes * 60,
        )
        sweeper.start(resources.tasks)
