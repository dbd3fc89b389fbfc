"""The pulse measures the loop it runs on, and publishes what it found."""

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.db.pool import PoolFigures
from headrace.lifecycle import Supervision
from headrace.observability.metrics import Metrics
from headrace.observability.pulse import Pulse
from headrace.observability.slots import Figures, StatusBoard, read_slots
from tests.support.waiting import eventually


@pytest.fixture
def board(tmp_path: Path) -> StatusBoard:
    return StatusBoard(tmp_path, stale_seconds=5.0)


@pytest.fixture
async def pulse(board: StatusBoard) -> AsyncIterator[Pulse]:
    pulse = Pulse(
        board,
        Metrics(board),
        pool_figures=lambda: PoolFigures(size=4, available=1, in_use=2, waiting=3, max_size=5),
        runs_running=lambda: 6,
    )
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
    pulse = Pulse(board, Metrics(board))
    await pulse.start()
    assert [slot.pid for slot in read_slots(tmp_path)] == [os.getpid()]
    await pulse.stop()
    await pulse.stop()
    assert read_slots(tmp_path) == []


async def test_figures_are_those_of_pool_worker_and_process(pulse: Pulse, tmp_path: Path) -> None:
    figures = published(tmp_path)
    assert figures.pool is not None
    assert figures.pool.model_dump() == {
        "size": 4,
        "available": 1,
        "in_use": 2,
        "waiting": 3,
        "max_size": 5,
        "leaked": 1,
    }
    assert figures.runs_running == 6
    assert figures.rss_bytes > 10_000_000
    assert figures.open_fds > 3
    assert len(figures.gc_collections) == 3


async def test_what_stops_measuring_is_reported(board: StatusBoard) -> None:
    metrics = Metrics(board)
    measured: list[int] = []

    def fail_the_second_time() -> int:
        measured.append(1)
        return 1 // (2 - len(measured))

    supervision = Supervision(metrics.record_fault)
    pulse = Pulse(board, metrics, supervision=supervision, runs_running=fail_the_second_time)
    await pulse.start()
    await eventually(lambda: b'faults_total{task="pulse"} 1.0' in metrics.render())
    await pulse.stop()
