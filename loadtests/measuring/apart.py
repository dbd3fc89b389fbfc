"""A load in a process of its own: ``drive(load)``.

The process takes a pickled load on its standard input, writes a byte when the measured time begins,
another when it is over, and the pickled outcome. It imports the modules of scripts; they should be
light.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from loadtests.measuring.client import Course, Load, Outcome

_ROOT = Path(__file__).parents[2]
_BEGUN, _ENDED = b"(", b")"
_IDLE = "idle"


class LoadFailed(Exception):
    """The client could not prepare or measure; what it printed is on standard error."""


class LoadProcess:
    """A load under way in another process."""

    def __init__(self, process: subprocess.Popen[bytes], load: Load) -> None:
        self._process = process
        assert process.stdin is not None
        process.stdin.write(pickle.dumps(load))
        process.stdin.close()

    def wait_begun(self) -> None:
        """Until all its connections are prepared and the measured time begins."""
        self._wait(_BEGUN)

    def wait_ended(self) -> None:
        """Until the measured time is over; requests may still be under way."""
        self._wait(_ENDED)

    def outcome(self) -> Outcome:
        """Wait until requests that were under way at the end are answered."""
        assert self._process.stdout is not None
        data = self._process.stdout.read()
        if not data:
            raise LoadFailed
        found: Outcome = pickle.loads(data)  # noqa: S301 - our own process wrote it
        return found

    def _wait(self, sign: bytes) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.read(1) != sign:
            raise LoadFailed


@contextmanager
def load_process(load: Load, *, idle: bool = False) -> Iterator[LoadProcess]:
    """Start it; nothing is counted before ``wait_begun`` returns.

    :param idle: the process has the processor only while nobody else wants it (``SCHED_IDLE``), as
        if it had a machine of its own. On a machine without idle time it asks for less than it is
        told.
    """
    process = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "loadtests.measuring.apart", *([_IDLE] if idle else [])],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield LoadProcess(process, load)
    finally:
        if process.stdout is not None:
            process.stdout.close()
        process.kill()
        process.wait()


def drive(load: Load) -> Outcome:
    """Run a load in a process of its own and wait for its outcome."""
    with load_process(load) as process:
        process.wait_begun()
        process.wait_ended()
        return process.outcome()


def _serve() -> None:
    if sys.argv[1:] == [_IDLE]:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    load: Load = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - our own parent wrote it

    outcome = uvloop.run(Course(load).run(lambda: _tell(_BEGUN), lambda: _tell(_ENDED)))
    _tell(pickle.dumps(outcome))


def _tell(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
