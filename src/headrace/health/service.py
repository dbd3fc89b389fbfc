"""The verdict whether this pod is ready, and a report on each process. Read from memory and slots
only.
"""

import asyncio
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version as installed_version
from time import monotonic
from typing import Any

from headrace.events.json_encoding import encode_json
from headrace.health.checks import DatabaseProbe, SchemaProbe
from headrace.lifecycle import Supervision
from headrace.observability.exposition import Written
from headrace.observability.health_gauges import PodFacts
from headrace.observability.metrics import Metrics
from headrace.observability.slots import Slot, StatusBoard
from headrace.worker.worker import Worker

#: For this many seconds the report is not written anew: anybody may request it at any rate.
_REPORT_SECONDS = 0.25


class HealthService:
    """The verdicts behind the health endpoints.

    :param worker: None in a process that has none.
    """

    def __init__(
        self,
        *,
        version: str,
        board: StatusBoard,
        metrics: Metrics,
        database: DatabaseProbe,
        schema: SchemaProbe,
        supervision: Supervision,
        worker: Worker | None = None,
    ) -> None:
        self._version = version
        self._langgraph = installed_version("langgraph")
        self._board = board
        self._metrics = metrics
        self._database = database
        self._schema = schema
        self._supervision = supervision
        self._worker = worker
        #: Whether metrics have a port of their own. The server sets it.
        self.metrics_elsewhere = False
        #: When the report was written, its status, and its JSON.
        self._written: tuple[float, int, bytes] = (float("-inf"), 503, b"")

    @property
    def pid(self) -> int:
        return self._board.own.pid

    @property
    def task_problem(self) -> str | None:
        """Why this process should be replaced, or None."""
        if problem := self._supervision.problem:
            return problem
        return self._worker.problem if self._worker is not None else None

    def unready_reasons(self) -> list[str]:
        """Why requests should not be sent here; empty if the pod is ready.

        The pod is ready while this process serves, no process is silent, and database and schema
        can be used. A draining process reports itself as unready. The other processes do not report
        it: they go on serving, and no probe reaches a process whose listeners are closed.
        """
        return self._reasons(self._board.read_all())

    def _reasons(self, slots: Sequence[Slot]) -> list[str]:
        reasons = [
            f"process {slot.pid} has been silent for {slot.age_seconds():.1f} s"
            for slot in slots
            if self._board.is_stale(slot)
        ]
        serving = any(slot.state == "serving" and not self._board.is_stale(slot) for slot in slots)
        for slot in slots:
            speaks = slot.pid == self.pid or not serving
            if slot.state != "serving" and speaks:
                reasons.append(f"process {slot.pid} is {slot.state}")
        if self._board.is_stale(self._board.own):
            # The event loop is blocked, and another thread asks. The results of the checks are old.
            return reasons
        if problem := self._database.problem:
            reasons.append(problem)
        if problem := self._schema.problem:
            reasons.append(problem)
        if problem := self.task_problem:
            reasons.append(f"process {self.pid}: {problem}")
        return reasons

    def silent(self) -> list[int]:
        """The pids of all processes of the pod if all have been silent too long; else empty."""
        slots = self._board.read_all()
        silent = [slot.pid for slot in slots if self._board.is_stale(slot)]
        return silent if len(silent) == len(slots) else []

    def report(self) -> dict[str, Any]:
        """The content of /health: verdict, version, schema, and each process of the pod."""
        slots = self._board.read_all()
        reasons = self._reasons(slots)
        return {
            "status": "unready" if reasons else "ready",
            "reasons": reasons,
            "version": self._version,
            "answered_by": self.pid,
            "database": {"reachable": self._database.problem is None},
            "schema": {
                "ok": self._schema.problem is None,
                "revision": self._schema.revision,
            },
            "queue": {"unserved_graphs": _unserved_graphs(slots)},
            "processes": [self._describe(slot) for slot in slots],
        }

    def facts(self) -> PodFacts:
        """What the metrics show about the health of the pod."""
        return PodFacts(
            ready=not self.unready_reasons(),
            database_reachable=self._database.problem is None,
            schema_fit=self._schema.problem is None,
            build={
                "version": self._version,
                "python": platform.python_version(),
                "langgraph": self._langgraph,
                "schema": self._schema.revision or "",
            },
        )

    def written_report(self) -> tuple[int, bytes]:
        """The report as JSON, with its status: 200, or 503 if the pod is unready.

        The report may be a quarter of a second old. May be called from another thread.
        """
        now = monotonic()
        written_at, status, body = self._written
        if now - written_at > _REPORT_SECONDS:
            report = self.report()
            status, body = 503 if report["reasons"] else 200, encode_json(report)
            self._written = (now, status, body)
        return status, body

    async def metrics(self) -> Written:
        """The metrics, written by another thread while this loop goes on.

        May be called from another event loop.
        """
        if self._metrics.exposition.is_due:
            self._metrics.note_facts(self.facts())
        # A request that is cancelled must not cancel the writing for other requests.
        return await asyncio.shield(asyncio.wrap_future(self._metrics.exposition.latest()))

    def _describe(self, slot: Slot) -> dict[str, Any]:
        figures = slot.figures.model_dump() if slot.figures is not None else {}
        return {
            "pid": slot.pid,
            "state": slot.state,
            "stale": self._board.is_stale(slot),
            "age_seconds": round(slot.age_seconds(), 3),
            "up_seconds": round(slot.age_seconds() + slot.written_at - slot.started_at, 1),
            **figures,
        }


def _unserved_graphs(slots: Sequence[Slot]) -> list[dict[str, Any]]:
    """Graphs that runs wait for and that no process of any pod executes."""
    figures = [slot.figures for slot in slots if slot.figures is not None]
    queues = [one.queue for one in figures if one.queue is not None]
    return [asdict(graph) for queue in queues[:1] for graph in queue.unserved]
