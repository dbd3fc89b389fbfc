"""Measures the length of the queue: in each pod, one process does that every ten seconds."""

from collections.abc import Sequence
from time import monotonic

import structlog

from headrace.lifecycle import Tasks
from headrace.observability.figures import QueueFigures, UnservedGraph
from headrace.observability.slots import StatusBoard
from headrace.queue.queue import Queue
from headrace.unavailable_errors import Unavailable

_log = structlog.stdlib.get_logger("headrace.queue")

_MEASURE_SECONDS = 10.0
#: A graph is logged again after this time.
_LOG_AGAIN_SECONDS = 600.0


class QueueDepth:
    """The process that leads the pod measures; in the others :attr:`figures` is None."""

    def __init__(self, queue: Queue, board: StatusBoard) -> None:
        self._queue = queue
        self._board = board
        self.figures: QueueFigures | None = None
        #: By graph that no process serves: when it was logged last.
        self._logged: dict[str, float] = {}

    def start(self, tasks: Tasks) -> None:
        tasks.repeat(
            self.measure,
            every_seconds=_MEASURE_SECONDS,
            at_once=True,
            name="queue-depth",
            log=_log,
            skipped_event="queue_not_measured",
        )

    async def measure(self) -> None:
        """One round.

        :raises Unavailable: the database did not answer; :attr:`figures` is None then.
        """
        try:
            self.figures = await self._queue.figures() if self._board.leads else None
        except Unavailable:
            self.figures = None
            raise
        self._log_unserved(self.figures.unserved if self.figures is not None else ())

    def _log_unserved(self, unserved: Sequence[UnservedGraph]) -> None:
        now = monotonic()
        due = now - _LOG_AGAIN_SECONDS
        self._logged = {graph_id: at for graph_id, at in self._logged.items() if at > due}
        for graph in unserved:
            if graph.graph_id not in self._logged:
                self._logged[graph.graph_id] = now
                _log.error(
                    "graph_not_served",
                    graph_id=graph.graph_id,
                    pending=graph.pending,
                    oldest_ready_seconds=round(graph.oldest_ready_seconds, 1),
                    remedy="Start a process whose langgraph.json names this graph, or cancel these"
                    " runs.",
                )
