"""Ready or not, and why: the verdict over all processes of the pod."""

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from headrace.health.checks import DatabaseProbe
from headrace.health.service import HealthService
from headrace.lifecycle import Supervision
from headrace.observability.metrics import Metrics
from headrace.observability.slots import Slot, StatusBoard, write_slot
from tests.support.measured import FIGURES
from tests.support.probes import ToldDatabase, ToldSchema
from tests.support.waiting import eventually


@dataclass
class Pod:
    """This process's service, and what the test changes around it."""

    board: StatusBoard
    probe: DatabaseProbe
    database: ToldDatabase
    directory: Path
    schema: ToldSchema = field(default_factory=ToldSchema)
    health: HealthService = field(init=False)

    def __post_init__(self) -> None:
        self.health = HealthService(
            version="1.2.3",
            board=self.board,
            metrics=Metrics(self.board),
            database=self.probe,
            schema=self.schema,
            supervision=Supervision(),
        )

    def other(self, pid: int, state: str, *, silent_seconds: float = 0.0) -> None:
        now = time.time()
        write_slot(
            self.directory,
            Slot.model_validate(
                {
                    "pid": pid,
                    "state": state,
                    "started_at": now - 100,
                    "written_at": now - silent_seconds,
                    "figures": FIGURES,
                }
            ),
        )


@pytest.fixture
async def pod(tmp_path: Path) -> AsyncIterator[Pod]:
    """A process that serves, with a database that answers."""
    database = ToldDatabase()
    probe = DatabaseProbe(database, interval_seconds=0.001)
    this = Pod(StatusBoard(tmp_path, stale_seconds=5.0), probe, database, tmp_path)
    this.board.publish(FIGURES)
    this.board.set_state("serving")
    await probe.start()
    yield this
    await probe.stop()


@pytest.fixture
def neighbour() -> Iterator[int]:
    """The pid of another living process."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


async def test_a_pod_that_serves_is_ready(pod: Pod, neighbour: int) -> None:
    assert pod.health.unready_reasons() == []
    pod.other(neighbour, "serving")
    assert pod.health.unready_reasons() == []


async def test_a_stale_slot_names_the_pid(pod: Pod, neighbour: int) -> None:
    pod.other(neighbour, "serving", silent_seconds=7.0)
    assert pod.health.unready_reasons() == [f"process {neighbour} has been silent for 7.0 s"]


async def test_a_process_that_starts_may_be_silent(pod: Pod, neighbour: int) -> None:
    pod.other(neighbour, "starting", silent_seconds=60.0)
    assert pod.health.unready_reasons() == []


async def test_a_process_that_drains_speaks_for_itself_only(pod: Pod, neighbour: int) -> None:
    pod.other(neighbour, "draining")
    assert pod.health.unready_reasons() == []
    pod.other(neighbour, "serving")
    pod.board.set_state("draining")
    assert pod.health.unready_reasons() == [f"process {os.getpid()} is draining"]


async def test_a_pod_without_a_process_that_serves_is_unready(pod: Pod, neighbour: int) -> None:
    pod.board.set_state("draining")
    pod.other(neighbour, "starting")
    assert sorted(pod.health.unready_reasons()) == sorted(
        [f"process {neighbour} is starting", f"process {os.getpid()} is draining"]
    )


async def test_a_schema_that_is_unfit_makes_the_pod_unready(pod: Pod) -> None:
    pod.schema.told = "the schema is at 9001"
    assert pod.health.unready_reasons() == ["the schema is at 9001"]
    assert pod.health.report()["schema"] == {"ok": False, "revision": "0004"}
    pod.schema.told = None
    assert pod.health.unready_reasons() == []


LOST = "the database does not answer: gone"


async def test_a_database_that_is_gone_makes_the_pod_unready(pod: Pod) -> None:
    pod.database.gone = True
    await eventually(lambda: pod.health.unready_reasons() == [LOST])
    assert pod.health.report()["database"] == {"reachable": False}
    pod.database.gone = False
    await eventually(lambda: pod.health.unready_reasons() == [])


async def test_all_reasons_are_told_together(pod: Pod, neighbour: int) -> None:
    pod.other(neighbour, "serving", silent_seconds=7.0)
    pod.board.set_state("draining")
    pod.schema.told = "the schema is at 9001"
    pod.database.gone = True
    await eventually(lambda: len(pod.health.unready_reasons()) == 4)


async def test_the_report_describes_every_process(pod: Pod, neighbour: int) -> None:
    pod.other(neighbour, "serving", silent_seconds=7.0)
    report = pod.health.report()
    assert report["status"] == "unready"
    assert (report["version"], report["answered_by"]) == ("1.2.3", os.getpid())
    processes = {one["pid"]: one for one in report["processes"]}
    assert processes.keys() == {os.getpid(), neighbour}
    assert processes[neighbour]["stale"]
    assert processes[neighbour]["age_seconds"] == pytest.approx(7.0, abs=1.0)
    assert processes[neighbour]["up_seconds"] == pytest.approx(100.0, abs=1.0)
    assert processes[neighbour].items() >= FIGURES.model_dump().items()


async def test_who_asks_often_is_told_what_was_written_before(pod: Pod) -> None:
    """Strangers may ask as often as they like: a report costs reading the slots of the pod."""
    status, body = pod.health.written_report()
    assert (status, json.loads(body)["status"]) == (200, "ready")
    pod.schema.told = "the schema is at 9001"
    assert pod.health.written_report() == (200, body)
    assert pod.health.unready_reasons() == ["the schema is at 9001"]
    await eventually(lambda: pod.health.written_report()[0] == 503)
