"""The run engine of a process: the heartbeat that renews its lease, the worker that executes runs,
the rescuer of runs of lost processes, the watchers, and the notifier between processes.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from headrace.events.log import EventLog, EventSweeper
from headrace.events.reader_buffers import BufferBudget
from headrace.following.run_watcher import Watcher
from headrace.following.thread_watcher import ThreadWatcher
from headrace.notices.notifier import Notifier
from headrace.queue.queue import Queue
from headrace.queue.takeover import failures_of_suspect
from headrace.server.resources import Resources, build_notifier
from headrace.server.webhooks import Webhooks, open_webhooks
from headrace.shares import Places
from headrace.usage.meter import UsageMeter
from headrace.usage.repository import UsageRepository
from headrace.worker.admission import Admission
from headrace.worker.channels import Channels
from headrace.worker.death_watch import DeathWatch
from headrace.worker.deaths import life_place
from headrace.worker.executor import Executor
from headrace.worker.graph_runner import GraphRunner
from headrace.worker.heartbeat import Heartbeat
from headrace.worker.queue_depth import QueueDepth
from headrace.worker.rescuer import Rescuer
from headrace.worker.roster import Roster
from headrace.worker.run_log import RunLog
from headrace.worker.slow_nodes import SlowNodes
from headrace.worker.stop_requests import StopRequests
from headrace.worker.temporary_threads import TemporaryThreads
from headrace.worker.worker import Worker


@dataclass(frozen=True, slots=True)
class RunEngine:
    worker: Worker
    watcher: Watcher
    thread_watcher: ThreadWatcher
    notifier: Notifier
    depth: QueueDepth
    reader_budget: BufferBudget
    webhooks: Webhooks
    event_log: EventLog


async def start_run_engine(resources: Resources, stack: AsyncExitStack) -> RunEngine:
    """Start the run engine. From now on it claims runs, and rescues runs of lost processes."""
    pool, settings, tasks = resources.pool, resources.settings, resources.tasks
    entries = resources.entries
    # Closed after the worker, whose last runs may have webhooks.
    webhooks = await open_webhooks(
        settings,
        entries.http,
        entries.webhooks,
        pool,
        resources.metrics,
        resources.share,
        tasks,
        stack,
    )
    queue = Queue(
        pool,
        resources.writer,
        suspect_failures=failures_of_suspect(settings.worker.max_failures),
        count_unreadable=resources.metrics.runs.count_unreadable,
    )
    notifier = build_notifier(settings, pool, resources.metrics, resources.supervision)
    log = EventLog(pool, resources.writer, settings.events)
    reader_budget = BufferBudget(settings.events, on_cut=resources.metrics.http.count_cut_client)
    channels = Channels(settings.events, log, notifier, resources.metrics, reader_budget)
    worker = await _start_worker(resources, webhooks, queue, channels, notifier, stack)
    watcher = Watcher(pool, notifier, settings.events, tasks)
    watcher.start()
    thread_watcher = ThreadWatcher(pool, notifier, settings.events, tasks)
    thread_watcher.start()
    EventSweeper(log, settings.events).start(tasks)
    depth = QueueDepth(queue, resources.board)
    depth.start(tasks)
    await notifier.start()
    stack.push_async_callback(notifier.stop)
    return RunEngine(worker, watcher, thread_watcher, notifier, depth, reader_budget, webhooks, log)


async def _start_worker(
    resources: Resources,
    webhooks: Webhooks,
    queue: Queue,
    channels: Channels,
    notifier: Notifier,
    stack: AsyncExitStack,
) -> Worker:
    """Start the heartbeat first, then the worker that needs its lease, then the rescuer.

    The runs of dead processes of the same master come before those of the queue.
    """
    place = life_place.get()
    settings, metrics, tasks = resources.settings, resources.metrics, resources.tasks
    heartbeat = Heartbeat(
        resources.pool.login,
        settings.worker,
        supervision=resources.supervision,
        graph_ids=resources.registry.ids() if settings.worker.enabled else (),
        place=place,
        schema=settings.database.schema_name,
        timeline_fence=settings.worker.timeline_fence,
        open_timeout_seconds=settings.database.open_timeout_seconds,
    )
    run_log = RunLog(metrics)
    temporary = TemporaryThreads(queue, later_seconds=5 * settings.events.poll_seconds)
    executor = _build_executor(resources, webhooks, queue, channels, run_log, temporary)
    places = Places(
        settings.worker.max_concurrent_runs,
        resources.share,
        most=settings.callers.max_running_runs,
    )
    roster = Roster(
        places,
        notifier,
        enabled=settings.worker.enabled,
        wait_seconds=settings.worker.place_wait_seconds,
    )
    stop_requests = StopRequests(queue, settings.events, notifier.listeners, roster)
    admission = Admission(queue, metrics, max_queued_runs=settings.callers.max_queued_runs)
    worker = Worker(
        executor,
        queue,
        heartbeat,
        channels,
        notifier,
        roster,
        stop_requests,
        admission,
        settings.worker,
        metrics,
        run_log,
        graph_ids=resources.registry.ids(),
        supervision=resources.supervision,
    )
    rescuer = Rescuer(
        queue, heartbeat, settings.worker, metrics, roster, notifier, resources.tracer
    )
    await heartbeat.start()
    stack.push_async_callback(heartbeat.stop)
    stack.push_async_callback(worker.stop)
    if place is not None:
        watch = DeathWatch(place.deaths, rescuer, lease_seconds=settings.worker.lease_seconds)
        await watch.look_at_start()
        watch.start(tasks)
    worker.start()
    admission.start(tasks)
    stop_requests.start(tasks)
    temporary.start(tasks)
    SlowNodes(roster, slow_seconds=settings.worker.slow_node_seconds).start(tasks)
    rescuer.start(tasks)
    return worker


def _build_executor(
    resources: Resources,
    webhooks: Webhooks,
    queue: Queue,
    channels: Channels,
    run_log: RunLog,
    temporary: TemporaryThreads,
) -> Executor:
    settings = resources.settings
    runner = GraphRunner(
        resources.registry,
        resources.saver,
        channels,
        UsageMeter(UsageRepository(resources.pool), settings.usage, resources.metrics.usage),
        recursion_limit=settings.worker.recursion_limit,
        max_checkpoint_bytes=settings.checkpointer.max_checkpoint_bytes,
    )
    return Executor(
        runner,
        queue,
        settings.worker,
        run_log,
        temporary,
        resources.tracer,
        webhooks.outbox,
        # Half of the margin, so that the release can still be committed. A run that is not released
        # waits until the lease has expired.
        release_seconds=settings.server.shutdown_margin_seconds / 2,
    )
