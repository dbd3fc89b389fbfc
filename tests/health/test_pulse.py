"""The pulse measures the loop it runs on, and publishes what it found."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from pydantic import SecretStr

from headrace.edge.body_memory import BodyMemory
from headrace.graphs.sources import sources_from_objects
from headrace.health.pulse import Pulse, PulseSources
from headrace.lifecycle import Supervision
from headrace.observability.figures import CallerFigures, Figures, MemoryFigures
from headrace.observability.metrics import Metrics
from headrace.observability.slots import StatusBoard, read_slots
from headrace.server.app import build_router
from headrace.server.lifespan import serving
from headrace.settings import Settings
from tests.support.apps import started
from tests.support.graphs.graphs import make_slow
from tests.support.waiting import eventually


@pytest.fixture
def board(tmp_path: Path) -> StatusBoard:
    return StatusBoard(tmp_path, stale_seconds=5.0)


@pytest.fixture
async def pulse(board: StatusBoard) -> AsyncIterator[Pulse]:
    pulse = Pulse(board, Metrics(board), PulseSources())
    await pulse.start()
    yield pulse
    await pulse.stop()


def published(directory: Path) -> Figures:
    (slot,) = read_slots(directory)
    assert slot.figures is not None
    return slot.figures


async def next_slot(board: StatusBoard) -> None:
    last = board.own.written_at
    await eventually(lambda: board.own.written_at > last)


async def test_a_blocked_loop_shows_as_lag(
    pulse: Pulse, board: StatusBoard, tmp_path: Path
) -> None:
    await next_slot(board)
    time.sleep(0.3)  # noqa: ASYNC251 - that is the point
    # A beat that was due in the middle of it was late by at least the rest.
    await eventually(lambda: pulse.measure().loop_lag_seconds >= 0.19)
    await eventually(lambda: published(tmp_path).loop_lag_seconds >= 0.19)


async def test_slots_are_published_again_and_again(pulse: Pulse, board: StatusBoard) -> None:
    for _ in range(2):
        await next_slot(board)


async def test_a_slot_is_there_from_the_start_and_gone_at_the_end(
    board: StatusBoard, tmp_path: Path
) -> None:
    pulse = Pulse(board, Metrics(board), PulseSources())
    await pulse.start()
    assert [slot.pid for slot in read_slots(tmp_path)] == [os.getpid()]
    await pulse.stop()
    await pulse.stop()
    assert read_slots(tmp_path) == []


async def test_figures_are_those_of_pool_worker_and_process(
    database_url: str, tmp_path: Path
) -> None:
    settings = Settings.model_validate(
        {
            "runtime_dir": tmp_path,
            "server": {"grace_seconds": 0},
            "database": {"url": SecretStr(database_url), "pool_max": 7},
        }
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, object]]:
        async with serving(settings, sources_from_objects({"slow": make_slow()})) as state:
            yield {"headrace": state}

    app = FastAPI(lifespan=lifespan)
    app.include_router(build_router())
    async with (
        started(app) as served,
        AsyncClient(transport=ASGITransport(served), base_url="http://server") as client,
    ):
        run = {"assistant_id": "slow", "input": {"seconds": 60}}
        assert (await client.post("/runs", json=run)).status_code == 200
        await eventually(lambda: published(tmp_path).runs_running == 1)
        figures = published(tmp_path)
    assert figures.pool is not None
    assert figures.pool.max_size == 7
    assert figures.pool.leaked == 0
    assert 0 < figures.pool.size <= 7
    assert figures.callers == CallerFigures(holding=1, at_limit=0, most_places=1)
    assert {"lists", "answers", "thread_streams"} <= set(figures.gates)
    assert figures.rss_bytes > 10_000_000
    assert figures.open_fds > 3
    assert len(figures.gc_collections) == 3


async def test_what_stops_measuring_is_reported(board: StatusBoard) -> None:
    metrics = Metrics(board)

    class FailsTheSecondTime(BodyMemory):
        measured = 0

        def figures(self) -> MemoryFigures:
            self.measured += 1
            return MemoryFigures(1 // (2 - self.measured))

    measured = PulseSources(body_memory=FailsTheSecondTime(total_bytes=1, wait_seconds=1.0))
    pulse = Pulse(board, metrics, measured, supervision=Supervision(metrics.process.record_fault))
    await pulse.start()
    await eventually(lambda: b'faults_total{task="pulse"} 1.0' in metrics.render())
    await pulse.stop()
