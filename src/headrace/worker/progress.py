"""How far an attempt has come: its first event, its steps, its nodes.

All of it is read from the chunks that the executor asks the graph for in any case, so it costs no
callback and no further stream mode. LangGraph sends ``updates`` when a node of the top graph ends,
and ``values`` when a step has changed the state. So a node is timed from the last ``values``, or
from the start of the stream. Its retries, and waits for slow clients, are in that time. Nodes of
subgraphs, nodes that LangGraph hides, and nodes that raise, interrupt or are cancelled are not
seen. A step that changes no key of the output sends no ``values``: it counts with the next step.
"""

from time import monotonic
from typing import Any

import structlog

from headrace.observability.run_metrics import AttemptMetrics
from headrace.queue.rows import Attempt

_log = structlog.stdlib.get_logger("headrace.worker")


class Progress:
    """The progress of one attempt. Only the event loop uses it.

    :param free_since: when the run might start, by ``time.monotonic``.
    :param slow_seconds: a node that takes longer is logged; 0: none is.
    """

    __slots__ = (
        "_attempt",
        "_free_since",
        "_graph_id",
        "_interrupted",
        "_metrics",
        "_repeating",
        "_slow_seconds",
        "_stored",
        "_told",
        "_updated",
        "compiled",
        "first_event_seconds",
        "loaded",
        "step_began_at",
        "steps",
    )

    def __init__(
        self,
        attempt: Attempt,
        metrics: AttemptMetrics,
        *,
        free_since: float,
        slow_seconds: float = 0.0,
    ) -> None:
        self._attempt = attempt
        self._graph_id = attempt.request.graph_id
        self._metrics = metrics
        self._free_since = free_since
        self._slow_seconds = slow_seconds
        #: Nodes that were logged as slow.
        self._told: set[str] = set()
        #: A node has ended since the step began.
        self._updated = False
        #: A node of the step has a result that the attempt before had stored.
        self._stored = False
        #: The step waits for an answer, so it has not ended when the graph stops.
        self._interrupted = False
        #: In the first step of a later attempt: the attempt before may have begun this step.
        self._repeating = attempt.number > 1
        self.step_began_at = monotonic()
        #: Seconds from when the run might start; None in a later attempt, and before that event.
        self.first_event_seconds: float | None = None
        self.steps = 0
        #: The graph, while it is executed.
        self.compiled: Any = None
        #: The graph was loaded, and has begun.
        self.loaded = False

    def begin(self, compiled: Any) -> None:
        """The graph is executed from now on."""
        self.compiled, self.loaded = compiled, True
        self.step_began_at = monotonic()

    def end(self, *, failed: bool) -> None:
        """The graph is not executed any more."""
        self.compiled = None
        if not failed:
            # The last step may have sent no ``values``.
            self._end_step()
        if self.steps:
            self._metrics.count_steps(self._graph_id, self.steps)

    def note_event(self, mode: str, chunk: Any) -> None:
        """Note an event that the request would get. The first that a node has caused is measured,
        in a first attempt.

        LangGraph sends the input, and what it begins, before any node has done anything.
        """
        if self._attempt.number > 1 or not self._is_caused_by_node(mode, chunk):
            return
        self.first_event_seconds = monotonic() - self._free_since
        self._metrics.observe_first_event(self._graph_id, self.first_event_seconds)

    def note(self, mode: str, chunk: Any) -> None:
        """Note a chunk of the top graph, of the mode ``values`` or ``updates``."""
        if type(chunk) is not dict:
            if mode == "values":
                self._end_step()
        elif mode == "values":
            if "__interrupt__" not in chunk:
                self._end_step()
        elif "__metadata__" in chunk:
            # The attempt before has stored the results of these nodes.
            self._stored = True
        else:
            for node in chunk:
                if node == "__interrupt__":
                    self._interrupted = True
                else:
                    self._end_node(node)

    def is_slow(self, now: float) -> bool:
        """Whether the present step takes longer than a node may."""
        return self.compiled is not None and now - self.step_began_at > self._slow_seconds

    def tell_slow(self, node: str, seconds: float) -> None:
        """Log a slow node, unless this attempt has done so."""
        if node in self._told:
            return
        self._told.add(node)
        request = self._attempt.request
        self._metrics.count_slow_node(self._graph_id)
        _log.warning(
            "node_slow",
            run_id=str(request.run_id),
            thread_id=request.thread_id,
            graph_id=request.graph_id,
            assistant_id=str(request.assistant_id),
            request_id=request.request_id,
            node=node,
            seconds=round(seconds, 3),
        )

    def _is_caused_by_node(self, mode: str, chunk: Any) -> bool:
        match mode:
            case "values" | "checkpoints":
                return self.steps > 0 or self._interrupted
            case "tasks":
                return "input" not in chunk
            case "debug":
                return bool(chunk["type"] == "task_result")
            case "events":
                return not str(chunk["event"]).endswith("_start")
        return True

    def _end_node(self, node: str) -> None:
        self._updated = True
        seconds = monotonic() - self.step_began_at
        self._metrics.observe_node(self._graph_id, node, seconds)
        if self._repeating:
            self._metrics.count_repeated_node(self._graph_id)
        if 0 < self._slow_seconds < seconds:
            self.tell_slow(node, seconds)

    def _end_step(self) -> None:
        """Note that the next step begins. The first ``values`` are those before all steps."""
        # A result that was not stored by an earlier attempt came from the cache of the node.
        if (self._updated or (self._stored and not self._repeating)) and not self._interrupted:
            self.steps += 1
        if self._updated or self._stored:
            self._repeating = False
        self._updated = self._stored = False
        self.step_began_at = monotonic()
