"""What a graph has left when it ends: the values and interrupts of its run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from langgraph.types import StateSnapshot

from headrace.checkpoints.write_size import least_bytes
from headrace.events.json_encoding import encode_json, json_pieces, storable
from headrace.queue.ends import EndedRun, RunEnd
from headrace.states.reader import interrupts_by_task, run_interrupts
from headrace.webhooks.payloads import result_json
from headrace.worker.final_state import FinalState

_log = structlog.stdlib.get_logger("headrace.worker")


@dataclass(slots=True)
class RunResult:
    """What an execution left: the graph's last values, what it waits for, and the committed end."""

    values: Any = None
    interrupted: bool = False
    #: Interrupts as the graph streamed them, for the answer.
    streamed_interrupts: list[Any] = field(default_factory=list)
    #: Interrupts by task, for the thread's row.
    thread_interrupts: dict[str, Any] | None = None
    #: Id and node of each interrupt, for the run's row.
    run_interrupts: Sequence[Mapping[str, str | None]] = ()
    final_state: FinalState = field(default_factory=FinalState)
    #: None before the run has ended, and when another process has the run now.
    ended: EndedRun | None = None

    def note_chunk(self, mode: str, chunk: Any) -> None:
        """Take what the graph itself has streamed, not one of its subgraphs."""
        if mode == "values":
            self.values = chunk
        elif mode == "updates" and isinstance(chunk, dict) and "__interrupt__" in chunk:
            self.interrupted = True
            # Each task streams its own interrupts. The interrupts of a subgraph may come twice.
            known = {interrupt.id for interrupt in self.streamed_interrupts}
            self.streamed_interrupts += [
                one for one in chunk["__interrupt__"] if one.id not in known
            ]

    def note_state(self, snapshot: StateSnapshot) -> None:
        """Take what the thread waits for, after the graph was interrupted."""
        # An interrupt after the last node leaves no task that waits.
        self.interrupted = bool(snapshot.next)
        self.thread_interrupts = storable(interrupts_by_task(snapshot))
        self.run_interrupts = run_interrupts(snapshot)

    def success(self) -> RunEnd:
        """The end of a run whose graph has not failed."""
        return RunEnd(
            "success",
            "interrupted" if self.interrupted else "idle",
            thread_interrupts=self.thread_interrupts,
            run_interrupts=self.run_interrupts,
        )

    def told(self, *, max_bytes: int) -> bytes:
        """What the receiver of a webhook is told: the last values, and what the thread waits for.

        :param max_bytes: larger values are left out.
        """
        snapshot = self.final_state.snapshot
        values = self.values
        if values is None and snapshot is not None:
            values = snapshot.values
        if type(values) is dict:
            values = {key: value for key, value in values.items() if key != "__interrupt__"}
        waiting = None
        if self.interrupted:
            waiting = encode_json(self.streamed_interrupts or list(self.run_interrupts))
        return result_json(_encoded(values, max_bytes), waiting, max_bytes=max_bytes)

    def answer(self) -> Any:
        """The last values with all interrupts; None if they cannot be read.

        The values that LangGraph streams have only one of several interrupts, or none if another
        node ended later.
        """
        if not self.streamed_interrupts:
            return self.values
        try:
            values = self.values if isinstance(self.values, dict) else {}
            return {**values, "__interrupt__": self.streamed_interrupts}
        except BaseException:
            # The values may be a dict class of the user.
            _log.exception("values_not_read")
            return None


def _encoded(values: Any, max_bytes: int) -> bytes | None:
    """The values as JSON; None if they are too large, without encoding all of them."""
    if least_bytes(values) > max_bytes:
        return None
    pieces, size = [], 0
    for piece in json_pieces(values):
        size += len(piece)
        if size > max_bytes:
            return None
        pieces.append(piece)
    return b"".join(pieces)
