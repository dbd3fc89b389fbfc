"""Runs that have ended while something of them goes on: a graph that hears no cancel, or a thread.

Python can end neither. So such a run keeps its place in the process until that has ended by itself,
and a process whose places are all kept like this is replaced.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import structlog

from headrace.setting_groups import WorkerSettings
from headrace.worker.execution import Execution
from headrace.worker.roster import Roster

_log = structlog.stdlib.get_logger("headrace.worker")

#: Threads end later than the run that they worked for, a call of a model for one: that is told
#: when they have not ended so long after it.
_TOLD_AFTER_SECONDS = 5.0


@dataclass(slots=True)
class _DeafRun:
    execution: Execution
    since: float
    told: asyncio.TimerHandle
    was_told: bool = False

    def goes_on(self) -> str:
        """What does: ``graph``, or ``threads``."""
        graph = self.execution.graph
        return "graph" if graph is not None and not graph.done() else "threads"


class DeafRuns:
    """Those of one process. Use it from its event loop."""

    def __init__(self, settings: WorkerSettings, roster: Roster) -> None:
        self._settings = settings
        self._roster = roster
        # Not by run: another attempt of the same may be executed here meanwhile.
        self._runs: dict[Execution, _DeafRun] = {}

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def problem(self) -> str | None:
        """Why this process should be replaced, or None."""
        bound = self._settings.deaf_seconds
        old = [one for one in self._runs.values() if monotonic() - one.since >= bound]
        if len(old) >= self._settings.max_concurrent_runs:
            return f"runs that ended more than {bound:g} s ago, and go on, hold all places for runs"
        if sum(one.execution.work.busy for one in old) >= self._settings.threads / 2:
            return f"runs that ended more than {bound:g} s ago hold half of the threads"
        return None

    def keep(self, execution: Execution) -> bool:
        """Whether anything of a run that has ended goes on; it is kept until that has ended."""
        graph = execution.graph
        if graph is None or not graph.done() or graph.cancelled():
            execution.work.cut()
        wait = _TOLD_AFTER_SECONDS
        if graph is not None and not graph.done():
            # It has had time to stop.
            wait = 0.0
            graph.add_done_callback(lambda _: self._look_at(execution))
        else:
            # Its exception refers to the graph's state, and whoever is answered to the execution.
            execution.graph = None
            if not self._watch_threads(execution):
                return False
        told = asyncio.get_running_loop().call_later(wait, self._tell, execution)
        self._runs[execution] = _DeafRun(execution, monotonic(), told)
        return True

    def stop(self) -> None:
        """Tell no more: the process ends."""
        for one in self._runs.values():
            one.told.cancel()

    def _watch_threads(self, execution: Execution) -> bool:
        """Look again when no thread works for it; False: none does now."""
        loop = asyncio.get_running_loop()

        def idle() -> None:
            # Called from a thread, which may outlive the loop.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._look_at, execution)

        return execution.work.when_idle(idle)

    def _look_at(self, execution: Execution) -> None:
        if self._watch_threads(execution):
            return
        deaf = self._runs.pop(execution, None)
        if deaf is None:
            return
        deaf.told.cancel()
        if deaf.was_told:
            seconds = round(monotonic() - deaf.since, 1)
            _log.info("deaf_run_gone", seconds=seconds, **_names(execution))
        self._roster.give_back(execution)

    def _tell(self, execution: Execution) -> None:
        deaf = self._runs[execution]
        deaf.was_told = True
        _log.warning(
            "run_deaf",
            goes_on=deaf.goes_on(),
            threads=execution.work.busy,
            **_names(execution),
        )


def _names(execution: Execution) -> dict[str, Any]:
    return {
        "run_id": str(execution.run_id),
        "thread_id": execution.thread_id,
        "graph_id": execution.request.graph_id,
    }
