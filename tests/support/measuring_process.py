"""A process that measures itself and answers for its pod; started with ``-m``, told on stdin.

``observe N`` counts N of everything, ``available N`` changes the free connections of its pool,
``render`` exposes the metrics. Each command is answered by one line of JSON.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from headrace.health.pulse import Pulse, PulseSources
from headrace.observability.logging import configure_logging
from headrace.observability.metrics import Metrics
from headrace.observability.slots import StatusBoard
from headrace.settings import Settings, multiprocess_dir
from tests.support.exposition import Exposition
from tests.support.measured import POOL, observe_one_of_each
from tests.support.sources import ROOT


def obey(board: StatusBoard, metrics: Metrics) -> Iterator[object]:
    pulse, pool = Pulse(board, metrics, PulseSources()), POOL
    board.publish(pulse.measure().model_copy(update={"pool": pool}))
    board.set_state("serving")
    yield board.own.pid
    for line in sys.stdin:
        match line.split():
            case ["observe", times]:
                for _ in range(int(times)):
                    observe_one_of_each(metrics)
            case ["available", connections]:
                pool = replace(POOL, available=int(connections))
        board.publish(pulse.measure().model_copy(update={"pool": pool}))
        yield metrics.render().decode()


def main() -> None:
    settings = Settings()
    configure_logging(settings.observability)
    board = StatusBoard(settings.runtime_dir, stale_seconds=settings.server.slot_stale_seconds)
    for answer in obey(board, Metrics(board, multiprocess_dir=multiprocess_dir())):
        print(json.dumps(answer), flush=True)


class MeasuringProcess:
    """One of them, seen from the test."""

    def __init__(self, runtime_dir: Path) -> None:
        directory = runtime_dir / "metrics"
        directory.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.measuring_process"],
            cwd=ROOT,
            env={
                "PYTHONPATH": str(ROOT / "src"),
                "HEADRACE_RUNTIME_DIR": str(runtime_dir),
                "PROMETHEUS_MULTIPROC_DIR": str(directory),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.pid = int(self._answer())

    def tell(self, command: str) -> Exposition:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return Exposition(self._answer())

    def render(self) -> Exposition:
        return self.tell("render")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return str(json.loads(self._process.stdout.readline()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def two_processes(runtime_dir: Path) -> Iterator[tuple[MeasuringProcess, MeasuringProcess]]:
    with MeasuringProcess(runtime_dir) as one, MeasuringProcess(runtime_dir) as other:
        yield one, other


if __name__ == "__main__":
    main()
