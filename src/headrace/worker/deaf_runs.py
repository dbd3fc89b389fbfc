"""Deaf runs: they have ended, but their graph ignores the cancel, or one of their threads goes on.

Python can stop neither. So a deaf run keeps its place in the process until its graph and its
threads have ended by themselves. When deaf runs hold all places or half of the threads for too
long, the process reports a problem, and is replaced.
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

#: A thread often ends a little later than its run, for example after a call of a model; so does the
#: graph, if user code has cancelled all tasks. They are logged only when they go on for longer than
#: this.
_LOG_AFTER_SECONDS = 5.0


@dataclass(slots=True)
class _DeafRun:
    execution: Execution
    since: float
    timer: asyncio.TimerHandle
    logged: bool = False

    def goes_on(self) -> str:
        """What still goes on: ``graph`` or ``threads``."""
        graph = self.execution.graph
        return "graph" if graph is not None and not graph.done() else "threads"


class DeafRuns:
    """The deaf runs of one process. Only its event loop uses this."""

    def __init__(self, settings: WorkerSettings, roster: Roster) -> None:
        self._settings = settings
        self._roster = roster
        # By execution, not by run: another attempt of the run may be executed here meanwhile.
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
        """Watch an ended run whose graph or threads go on; return whether they do.

        When graph and threads have ended too, the run's place is given back.
        """
        graph = execution.graph
        if graph is None or not graph.done() or graph.cancelled():
            execution.work.cut()
        log_after_seconds = _LOG_AFTER_SECONDS
        if graph is not None and not graph.done():
            if execution.given_up:
                # The graph has had its time to stop.
                log_after_seconds = 0.0
            graph.add_done_callback(lambda _: self._look_at(execution))
        else:
            # While a follower keeps the execution, the exception of this task would keep the
            # graph's state in memory.
            execution.graph = None
            if not self._watch_threads(execution):
                return False
        loop = asyncio.get_running_loop()
        timer = loop.call_later(log_after_seconds, self._log_deaf, execution)
        self._runs[execution] = _DeafRun(execution, monotonic(), timer)
        return True

    def stop(self) -> None:
        """Log nothing more: the process ends."""
        for one in self._runs.values():
            one.timer.cancel()

    def _watch_threads(self, execution: Execution) -> bool:
        """Look again once no thread works for the run; return False if none does now."""
        loop = asyncio.get_running_loop()

        def idle() -> None:
            # The thread that calls this may outlive the loop.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._look_at, execution)

        return execution.work.when_idle(idle)

    def _look_at(self, execution: Execution) -> None:
        if self._watch_threads(execution):
            return
        deaf = self._runs.pop(execution, None)
        if deaf is None:
            return
        deaf.timer.cancel()
        if deaf.logged:
            seconds = round(monotonic() - deaf.since, 1)
            _log.info("deaf_run_gone", seconds=seconds, **_names(execution))
        self._roster.give_back(execution)

    def _log_deaf(self, execution: Execution) -> None:
        deaf = self._runs[execution]
        deaf.logged = True
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
