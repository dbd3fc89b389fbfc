"""Is this pod ready, and how is each of its processes? Answered from memory and slots only."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from time import monotonic
from typing import Any

from headrace.events.json_encoding import encode_json
from headrace.health.checks import DatabaseProbe, SchemaProbe
from headrace.lifecycle import Supervision
from headrace.observability.exposition import Written
from headrace.observability.metrics import Metrics
from headrace.observability.slots import Slot, StatusBoard
from headrace.worker.worker import Worker

#: A report is told again for so long: anybody may ask for it as often as they like.
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
        self._board = board
        self._metrics = metrics
        self._database = database
        self._schema = schema
        self._supervision = supervision
        self._worker = worker
        #: Whether metrics have a port of their own, as the server says.
        self.metrics_elsewhere = False
        #: When the report was written last, its status, and its JSON.
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
        """Why no more requests should be sent here; empty when they are welcome.

        The pod is ready while one of its processes serves and none is silent. A process that drains
        speaks for itself only: its neighbours go on serving, and once its listeners are closed no
        probe reaches it.
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
            # Asked from another thread: what this loop knows of the database is old.
            return reasons
        if problem := self._database.problem:
            reasons.append(problem)
        if problem := self._schema.problem:
            reasons.append(problem)
        if problem := self.task_problem:
            reasons.append(f"process {self.pid}: {problem}")
        return reasons

    def silent(self) -> list[int]:
        """Which processes of the pod have been silent for too long; empty while any is not."""
        slots = self._board.read_all()
        silent = [slot.pid for slot in slots if self._board.is_stale(slot)]
        return silent if len(silent) == len(slots) else []

    def report(self) -> dict[str, Any]:
        """Everything /health tells: verdict, version, schema, and each process of the pod."""
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

    def written_report(self) -> tuple[int, bytes]:
        """The report as JSON, with its status: 200, or 503 where the pod is unready.

        It may be a quarter of a second old. May be called from another thread.
        """
        now = monotonic()
        written_at, status, body = self._written
        if now - written_at > _REPORT_SECONDS:
            report = self.report()
            status, body = 503 if report["reasons"] else 200, encode_json(report)
            self._written = (now, status, body)
        return status, body

    async def metrics(self) -> Written:
        """What is to be told of the metrics; written elsewhere, while this loop goes on."""
        # Whoever leaves must not take it away from the others.
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
    """Graphs of which runs wait and that no process, of this pod or another, executes."""
    figures = [slot.figures for slot in slots if slot.figures is not None]
    queues = [one.queue for one in figures if one.queue is not None]
    return [asdict(graph) for queue in queues[:1] for graph in queue.unserved]
