"""The worker of a process with a real graph and its own lease, without a server around it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from headrace.checkpoints.store import Store
from headrace.event_settings import EventSettings
from headrace.events.log import EventLog
from headrace.graphs.registry import GraphRegistry
from headrace.graphs.sources import sources_from_objects
from headrace.lifecycle import Tasks
from headrace.notices.notifier import PollingNotifier
from headrace.observability.metrics import Metrics
from headrace.observability.slots import StatusBoard
from headrace.queue.queue import Queue
from headrace.setting_groups import WorkerSettings
from headrace.shares import Places
from headrace.worker.admission import Admission
from headrace.worker.channels import Channels
from headrace.worker.executor import Executor
from headrace.worker.heartbeat import Heartbeat
from headrace.worker.stop_requests import StopRequests
from headrace.worker.temporary_threads import TemporaryThreads
from headrace.worker.worker import Worker
from tests.support.database import open_pool
from tests.support.engine import open_saver, open_writer
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
    url: str, *, share: Any = 1.0, max_queued_runs: Any = 1000, **changes: Any
) -> AsyncIterator[Any]:
    """A process's worker, as the lifespan joins it; its graph is ``make_slow``.

    :param changes: to the settings of the worker.
    """
    settings = WorkerSettings.model_validate(changes)
    metrics = Metrics(StatusBoard(None, stale_seconds=5.0))
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(url, pool_max=6))
        writer = await stack.enter_async_context(open_writer(pool))
        saver = await stack.enter_async_context(open_saver(pool))
        store = Store(pool, observe=lambda operation, seconds: None)
        stack.push_async_callback(store.close)
        registry = await GraphRegistry.open(
            sources_from_objects({"agent": make_slow()}), checkpointer=saver, store=store
        )
        stack.push_async_callback(registry.close)
        queue = Queue(pool, writer)
        heartbeat = Heartbeat(url, settings)
        log, notifier = EventLog(pool, writer, EventSettings()), PollingNotifier()
        channels = Channels(EventSettings(), log, notifier, metrics)
        executor = Executor(
            registry,
            queue,
            saver,
            channels,
            settings,
            metrics,
            TemporaryThreads(queue, later_seconds=1),
            on_ended=lambda execution, end: worker.ended(execution, end),
        )
        worker = Worker(
            executor,
            queue,
            heartbeat,
            channels,
            notifier,
            settings,
            metrics,
            graph_ids=registry.ids(),
            places=Places(settings.max_concurrent_runs, share),
            admission=Admission(queue, metrics, max_queued_runs=max_queued_runs),
        )
        control = StopRequests(pool, EventSettings(), notifier.listeners, worker.executions)
        tasks = Tasks()
        control.start(tasks)
        stack.push_async_callback(tasks.stop)
        await heartbeat.start(on_lost=worker.drop_all)
        stack.push_async_callback(heartbeat.stop)
        stack.push_async_callback(worker.stop)
        worker.begin_rounds()
        yield worker
