"""SIGTERM ends a measurement as Ctrl-C does: what it has started is stopped too.

Without it a process that is told to end leaves servers behind, which take time from the next
measurement.
"""

import signal
import sys
from types import FrameType


def stop_all_on_termination() -> None:
    """For the main thread of a command, before it starts anything."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    # A second signal must not interrupt the stopping.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + number)
