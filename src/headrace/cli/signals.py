"""Counts Ctrl-C, TERM and a closed terminal; callers look at the count between steps."""

import signal
from types import FrameType
from typing import Any, Self


class StopSignals:
    """Counts requests to stop while the context is open.

    The first one never raises, so that no step is interrupted. Until ``settle`` is called, the
    second one raises KeyboardInterrupt, for a step that hangs.
    """

    def __init__(self) -> None:
        self.received = 0
        self._raising = True
        self._before: dict[signal.Signals, Any] = {}

    def settle(self) -> None:
        """From now on the caller polls ``received``, and nothing is raised any more."""
        self._raising = False

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # under nohup
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received += 1
        if self._raising and self.received > 1:
            raise KeyboardInterrupt
