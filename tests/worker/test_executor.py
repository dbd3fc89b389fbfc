"""One run: its graph, the commit of its end, and only then the news for those who follow it."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from pydantic import SecretStr

from headrace.events.log import EventLog
from headrace.events.reader import Moved
from headrace.graphs.sources import sources_from_objects
from headrace.lifecycle import Tasks
from headrace.notices.notifier import PollingNotifier
from headrace.queue.ends import RELEASED, EndedRun
from headrace.queue.queue import Queue
from headrace.server.resources import Entries, open_resources
from headrace.settings import Settings
from headrace.usage.meter import UsageMeter
from headrace.usage.repository import UsageRepository
from headrace.webhooks.outbox import Outbox
from headrace.webhooks.repository import DeliveryRepository
from headrace.worker.channels import Channels
from headrace.worker.execution import Execution, Stop
from headrace.worker.executor import Executor
from headrace.worker.graph_runner import GraphRunner
from headrace.worker.run_log import RunLog
from headrace.worker.temporary_threads import TemporaryThreads
from tests.support.graphs.graphs import make_slow
from tests.support.runs import expire_process, register_process, run_request
from tests.support.waiting import eventually
from tests.support.workers import KWARGS


class Process:
    """What executes runs in a process, and its row; nobody renews its lease."""

    def __init__(self, resources, database):
        self.queue = Queue(resources.pool, resources.writer)
        self.database = database
        self.process_id = register_process(database)
        events, metrics = resources.settings.events, resources.metrics
        self.metrics = metrics
        log = EventLog(resources.pool, resources.writer, events)
        self.channels = Channels(events, log, PollingNotifier(), metrics)
        runner = GraphRunner(
            resources.registry,
            resources.saver,
            self.channels,
            UsageMeter(UsageRepository(resources.pool), resources.settings.usage, metrics.usage),
            recursion_limit=resources.settings.worker.recursion_limit,
        )
        self.executor = Executor(
            runner,
            self.queue,
            resources.settings.worker,
            RunLog(metrics),
            TemporaryThreads(self.queue, later_seconds=1),
            resources.tracer,
            Outbox(DeliveryRepository(resources.pool), max_payload_bytes=1024 * 1024),
        )

    async def start(self, seconds=0.0, **changes):
        """A run that has its thread, and is not executed yet."""
        kwargs = {**KWARGS, "input": {"seconds": seconds}}
        request = replace(run_request("t"), kwargs=kwargs, **changes)
        attempt = await self.queue.start_run_if_free(request, self.process_id)
        return self.execution(attempt)

    def execution(self, attempt):
        return Execution(attempt, self.channels, self.metrics.attempts)

    def row(self, columns, table="runs"):
        return self.database.execute(f"SELECT {columns} FROM {table}").fetchone()


@pytest.fixture
async def process(database_url, database):
    settings = Settings.model_validate({"database": {"url": SecretStr(database_url)}})
    async with AsyncExitStack() as stack:
        resources = await open_resources(
            settings,
            sources_from_objects({"agent": make_slow()}),
            Entries.of(None, settings.retention),
            stack,
        )
        yield Process(resources, database)


async def test_the_end_is_committed_before_anybody_who_follows_is_told(process):
    execution = await process.start()
    result = await process.executor.execute(execution)
    assert isinstance(result.ended, EndedRun)
    assert (result.ended.end.status, result.ended.more, result.ended.watched) == (
        "success",
        False,
        False,
    )
    assert process.row("status") == ("success",)
    assert process.row("status, running_run_id", "threads") == ("idle", None)
    assert await execution.outcome(0) is None
    await process.executor.finish(execution, result)
    outcome = await execution.outcome(0)
    assert (outcome.status, outcome.values["done"]) == ("success", [0, 1, 2])


async def test_a_temporary_thread_is_gone_before_anybody_who_follows_is_told(process):
    execution = await process.start(temporary_thread=True)
    result = await process.executor.execute(execution)
    assert process.row("count(*)", "threads") == (1,)
    await process.executor.finish(execution, result)
    assert process.row("count(*)", "threads") == (0,)
    assert (await execution.outcome(0)).status == "success"


@pytest.mark.parametrize("begun", [False, True])
async def test_a_run_that_is_asked_to_stop_ends_as_interrupted(process, begun):
    execution, tasks = await process.start(seconds=30), Tasks()
    executing = tasks.start(process.executor.execute(execution), name="execute")
    if begun:
        await eventually(lambda: execution.writes is not None)
    execution.cancel("enough", "client")
    result = await asyncio.wait_for(executing, 10)
    assert result.ended.end.status == "interrupted"
    assert process.row("status, error->>'message'") == ("interrupted", "enough")


async def test_a_released_run_is_pending_again_and_is_followed_elsewhere(process):
    execution = await process.start(seconds=30)
    execution.ask_to_stop(Stop.RELEASED, "")
    result = await process.executor.execute(execution)
    assert result.ended.end is RELEASED
    assert process.row("status, attempt") == ("pending", 1)
    await process.executor.finish(execution, result)
    with pytest.raises(Moved):
        await execution.outcome(0)


async def test_a_run_that_another_process_took_has_no_end_here(process):
    execution = await process.start()
    expire_process(process.database, process.process_id)
    error = {"error": "ProcessLost", "message": "gone"}
    await process.queue.takeover.take_runs_of_lost_processes(error, max_failures=3)
    result = await process.executor.execute(execution)
    assert result.ended is None
    assert process.row("status") == ("pending",)
    await process.executor.finish(execution, result)
    with pytest.raises(Moved):
        await execution.outcome(0)


async def test_a_run_ends_as_error_whatever_fails_here(process):
    execution = await process.start()
    # Its row names a graph that this process does not have.
    request = replace(execution.request, graph_id="nowhere")
    execution = process.execution(replace(execution.attempt, request=request))
    result = await process.executor.execute(execution)
    assert result.ended.end.status == "error"
    await process.executor.finish(execution, result)
    outcome = await execution.outcome(0)
    assert outcome is not None
    assert outcome.values is None
    assert outcome.error == result.ended.end.error
