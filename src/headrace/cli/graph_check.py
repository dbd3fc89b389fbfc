"""The check of the graphs, in a process of its own: user code, and LangGraph's slow import."""

import subprocess
import sys
from typing import Self


class GraphCheck:
    """Under way from the start; says itself, on stderr, what it does not like."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "headrace.graphs.check"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def passed(self) -> bool:
        """Wait for its end."""
        return self._process.wait() == 0

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
