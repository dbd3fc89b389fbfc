"""The time to the commit tells what the time of the call does not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

import psycopg
import pytest
from structlog.testing import capture_logs

from headrace.checkpointer_settings import CheckpointerSettings
from headrace.checkpoints.commits import Commits
from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.run_saver import RunSaver
from headrace.checkpoints.run_writes import RunWrites
from headrace.checkpoints.saver import GroupCommitSaver
from headrace.checkpoints.upstream_saver import UpstreamSaver
from headrace.checkpoints.writer import Writer
from headrace.errors import LeaseLost
from headrace.ids import uuid7
from headrace.observability.metrics import Metrics
from tests.support.chains import config_of, put
from tests.support.database import open_pool
from tests.support.engine import ENGINES
from tests.support.exposition import Exposition
from tests.support.measured import board_with
from tests.support.pace import within

LOCKED_SECONDS = 1.5


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(board_with())


@asynccontextmanager
async def saver_on(
    url: str, metrics: Metrics, *, engine: str = "group_commit", slow_seconds: float = 1.0
) -> AsyncIterator[RunSaver]:
    async with open_pool(url) as pool:
        writer = Writer(pool, CheckpointerSettings())
        kind = UpstreamSaver if engine == "upstream" else GroupCommitSaver
        saver = kind(
            pool,
            writer,
            observe=metrics.checkpoints.observe_checkpoint,
            commits=Commits(metrics.checkpoints, slow_seconds=slow_seconds),
        )
        try:
            yield saver
            await saver.stop()
        finally:
            await writer.stop()


@contextmanager
def locked(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url) as holder:
        holder.execute("LOCK TABLE checkpoints, checkpoint_writes IN ACCESS EXCLUSIVE MODE")
        yield holder


def exposed(metrics: Metrics) -> Exposition:
    return Exposition(metrics.render().decode())


async def write_both(saver: RunSaver, thread_id: str) -> None:
    """One checkpoint, and the writes of a task."""
    await put(saver, thread_id, 1, ["hi"])
    await saver.aput_writes(config_of(thread_id, 1), [("channel", "x" * 100)], str(UUID(int=1)))


async def test_a_locked_table_shows_in_the_commit_and_not_in_the_call(database_url, metrics):
    """The call returns when its write is queued (durability async)."""
    async with saver_on(database_url, metrics) as saver:
        with saver.run() as writes, capture_logs() as lines:
            with locked(database_url):
                for number in range(1, 21):
                    await put(saver, "t", number, ["hi"])
                await asyncio.sleep(LOCKED_SECONDS)
            await writes.committed()
    calls = metrics.checkpoints.latency.percentiles()
    commits = metrics.checkpoints.commit_latency.percentiles()
    print(f"calls {calls}, commits {commits}")
    assert commits.operations == 20
    assert commits.p99_seconds >= LOCKED_SECONDS
    assert calls.p99_seconds < within(0.5)
    found = exposed(metrics)
    assert found.value("headrace_checkpoint_commit_seconds_count", operation="put") == 20
    assert found.value("headrace_checkpoint_commit_seconds_bucket", operation="put", le="1.0") == 0
    assert found.value("headrace_slow_checkpoints_total") == 20
    slow = [line for line in lines if line["event"] == "checkpoint_slow"]
    assert 1 <= len(slow) < 20
    assert slow[0]["thread_id"] == "t"
    assert slow[0]["operation"] == "put"
    assert slow[0]["seconds"] >= LOCKED_SECONDS
    assert slow[0]["bytes"] > 0


@pytest.mark.parametrize("engine", ENGINES)
async def test_both_engines_observe_both_operations(database_url, metrics, engine):
    async with saver_on(database_url, metrics, engine=engine) as saver:
        await write_both(saver, "t")
    found = exposed(metrics)
    for operation in ("put", "put_writes"):
        labels = {"operation": operation}
        assert found.value("headrace_checkpoint_commit_seconds_count", **labels) == 1
        assert found.value("headrace_checkpoint_commit_seconds_sum", **labels) > 0
    assert found.value("headrace_checkpoint_bytes_total", operation="put_writes") >= 100
    assert found.value("headrace_checkpoint_bytes_total", operation="put") > 0


@pytest.mark.parametrize("engine", ENGINES)
async def test_the_lock_shows_with_both_engines_where_the_call_waits(database_url, metrics, engine):
    async with saver_on(database_url, metrics, engine=engine, slow_seconds=0) as saver:
        with locked(database_url) as holder, capture_logs() as lines:
            writing = asyncio.ensure_future(write_both(saver, "t"))
            await asyncio.sleep(0.3)
            holder.rollback()
            await writing
    assert metrics.checkpoints.commit_latency.percentiles().p99_seconds >= 0.25
    assert not [line for line in lines if line["event"] == "checkpoint_slow"]
    assert exposed(metrics).count("headrace_slow_checkpoints_total") == 0


async def test_a_write_that_fails_is_not_observed(database_url, metrics):
    """It belongs to a run that another process has taken."""
    async with saver_on(database_url, metrics) as saver:
        with saver.run(RunToken(uuid7(), 1, uuid7())) as writes:
            await put(saver, "t", 1, ["hi"])
            with pytest.raises(LeaseLost):
                await writes.committed()
    assert metrics.checkpoints.commit_latency.percentiles().operations == 0
    assert exposed(metrics).value("headrace_checkpoint_commit_seconds_count") == 0


async def test_all_writes_of_a_lost_run_fail_with_the_error_of_the_run(database_url, metrics):
    """Their flush fails with an error for each; another one would be told as one of the graph."""
    async with saver_on(database_url, metrics) as saver:
        token = RunToken(uuid7(), 1, uuid7())
        with saver.run(token, durability="sync") as writes:
            both = (put(saver, "t", number, ["hi"]) for number in (1, 2))
            found = await asyncio.gather(*both, return_exceptions=True)
    assert isinstance(writes.failure, LeaseLost)
    assert [one is writes.failure for one in found] == [True, True]


async def test_a_slow_write_of_a_run_is_told_with_its_run(metrics):
    commits = Commits(metrics.checkpoints, slow_seconds=0.001)
    token = RunToken(uuid7(), 1, uuid7())
    run = RunWrites(token, waits_each=False, fresh_thread=None, hurry=lambda thread_id: None)
    with capture_logs() as lines:
        for _ in range(100):
            commits.note("put", 0.0, thread_id="t", run=run, size_bytes=7)
    assert 5 <= len(lines) <= 10
    assert lines[0]["run_id"] == str(token.run_id)
    assert exposed(metrics).value("headrace_slow_checkpoints_total") == 100
