"""The first check of the graphs, while Postgres starts. A problem is printed at once."""

import threading
from types import TracebackType
from typing import Any, Self

from headrace.cli.graph_check import GraphCheck
from headrace.cli.output import complain
from headrace.cli.reload import tell_if_slow
from headrace.cli.signals import StopSignals

_POLL_SECONDS = 0.05


class FirstCheck:
    """Runs while the context is open; a thread watches the check and prints what is wrong."""

    def __init__(self) -> None:
        self._check = GraphCheck()
        self._given_up = threading.Event()
        self._refused = False
        self._thread = threading.Thread(target=self._look, name="first-check", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._given_up.set()
        self._thread.join()
        self._check.stop()

    def passed(self, signals: StopSignals) -> bool:
        """Wait for its end, or for a request to stop. False if it has found a problem."""
        while self._thread.is_alive() and not signals.received:
            self._thread.join(_POLL_SECONDS)
        return not self._refused

    def input_schema(self, graph_id: str) -> dict[str, Any] | None:
        """The JSON schema of a graph's input, once the check has passed; else None."""
        return self._check.input_schema(graph_id)

    def _look(self) -> None:
        while not self._check.ended:
            tell_if_slow(self._check)
            if self._given_up.wait(_POLL_SECONDS):
                return
        if (problem := self._check.problem()) is not None:
            self._refused = True
            complain(problem)
