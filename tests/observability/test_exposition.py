"""Who asks for metrics holds nobody up, however many ask; ended processes cost nothing."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.mmap_dict import MmapedDict

from headrace.observability.exposition import Exposition
from headrace.observability.metric_files import fold_files_of_dead, reading
from headrace.observability.metrics import Metrics
from tests.support.exposition import Exposition as Scraped
from tests.support.measured import board_with


class Source:
    """Families that take as long as the test wants, and how often they were asked for."""

    def __init__(self) -> None:
        self.asked = 0
        self.threads: set[int] = set()
        self.may_go = threading.Event()

    def __call__(self) -> Iterator[Metric]:
        self.asked += 1
        self.threads.add(threading.get_ident())
        assert self.may_go.wait(10)
        metric = Metric("asked", "How often.", "gauge")
        metric.add_sample("asked", {}, self.asked)
        yield metric


async def test_those_who_ask_together_get_one_text_and_the_loop_goes_on() -> None:
    source = Source()
    exposition = Exposition(source)
    waiting = [asyncio.wrap_future(exposition.latest()) for _ in range(100)]
    waiting[0].cancel()
    # The loop runs while it is written.
    await asyncio.sleep(0)
    source.may_go.set()
    texts = {(await one).text for one in waiting[1:]}
    assert (len(texts), source.asked) == (1, 1)
    assert threading.get_ident() not in source.threads
    assert b"asked 1.0" in (await asyncio.wrap_future(exposition.latest())).text
    assert source.asked == 1
    exposition.close()


async def test_a_text_gets_old() -> None:
    source = Source()
    source.may_go.set()
    exposition = Exposition(source, cache_seconds=0)
    assert b"asked 1.0" in exposition.latest().result(5).text
    assert b"asked 2.0" in exposition.latest().result(5).text
    exposition.close()


async def test_a_failure_is_told_and_forgotten() -> None:
    failing = True

    def collect() -> list[Metric]:
        if failing:
            raise OSError("no file")
        return []

    exposition = Exposition(collect, cache_seconds=0)
    with pytest.raises(OSError, match="no file"):
        exposition.latest().result(5)
    failing = False
    assert exposition.latest().result(5).text == b""
    exposition.close()


def _ended() -> int:
    """The pid of a process that was."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_files_of_ended_processes_become_one(tmp_path: Path) -> None:
    key = '["headrace_claims", "headrace_claims_total", {}, "Runs."]'
    dead = {_ended() for _ in range(5)}
    for pid in dead:
        values = MmapedDict(str(tmp_path / f"counter_{pid}.db"))
        values.write_value(key, 2.0, 0.0)
        values.close()
    for times in (1, 2):
        with reading(tmp_path):
            before = sorted(tmp_path.glob("*.db"))
            fold_files_of_dead(tmp_path)
            assert sorted(tmp_path.glob("*.db")) == before, "somebody reads"
        fold_files_of_dead(tmp_path)
        assert [path.name for path in tmp_path.glob("*.db")] == ["counter_0.db"]
        metrics = Metrics(board_with())
        metrics._directory = tmp_path
        found = Scraped(metrics.render().decode())
        assert found.value("headrace_claims_total") == 2.0 * len(dead) * times
        for pid in dead:
            values = MmapedDict(str(tmp_path / f"counter_{pid}.db"))
            values.write_value(key, 2.0, 0.0)
            values.close()
