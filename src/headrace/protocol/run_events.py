"""The events of one run, in the form in which the streaming protocol v3 sends them.

Most of them are stored in this form (``headrace.events.protocol_events``), and get a number and an
id here. The beginning and the end of the run come from the run itself. What the graph asks is held
back until the end of the run is committed: only then may a client answer.

A run that was started on another route has the events of its stream modes. Those of ``values``,
``custom`` and ``tasks`` are sent.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from time import time
from typing import Any

import orjson

from headrace.events.event import Event
from headrace.events.json_encoding import encode_json
from headrace.events.protocol_events import PREFIX
from headrace.events.sse import frame
from headrace.following.thread_runs import FoundRun
from headrace.protocol.subscription import CUSTOM, Namespace

#: Modes of other runs whose events are sent.
_OTHER_MODES = ("values", "custom", "tasks")
#: Ids of a later attempt of a run that keeps no events begin here, and number nothing.
_MOST_NUMBERED = 2**32

#: The time of an event stands within so many bytes of its params, behind its namespace.
_MOST_HEAD = 4096
_TIMESTAMP = re.compile(rb'"timestamp":(\d+)')

_CHANNEL_OF = {"input.requested": "input", "input.answered": "input"}


@dataclass(slots=True)
class WireEvent:
    """
    :ivar channel: the channel that a client subscribes to.
    :ivar number: rises within the thread; None: it has no place in the order.
    :ivar params: JSON text.
    """

    method: str
    channel: str
    namespace: Namespace
    event_id: str
    number: int | None
    params: bytes

    @property
    def message(self) -> bytes:
        """The whole event as JSON text."""
        number = b"" if self.number is None else b'"seq":%d,' % self.number
        return b'{"type":"event","event_id":"%b",%b"method":"%b","params":%b}' % (
            self.event_id.encode(),
            number,
            self.method.encode(),
            self.params,
        )

    @property
    def frame(self) -> bytes:
        """The event as a server-sent event."""
        return frame(self.method, self.message, self.number)


class RunEvents:
    """Makes the events of one run that a client gets, from the events that a reader gives."""

    def __init__(self, run: FoundRun) -> None:
        self._run = run
        self._last_id = run.after or 0
        #: What the graph asks.
        self._held: list[WireEvent] = []
        #: The graph waits for an answer.
        self._waits = False
        self._ended = False
        self._is_of_protocol = False
        self._has_other = False
        #: The time of the last event, in milliseconds since the epoch.
        self._at_ms = run.started_ms
        #: The client gets the end of the run.
        self._told = run.whole

    def of(self, event: Event) -> Iterator[WireEvent]:
        """The events that the client gets for this one."""
        self._last_id = max(self._last_id, event.event_id)
        self._told = self._told or bool(event.event_id)
        if event.name.startswith(PREFIX):
            self._is_of_protocol = True
            yield from self._of_protocol(event)
        elif event.name == "metadata":
            yield from self._begun(event)
        elif event.name in ("end", "error"):
            yield from self._end(event)
        else:
            yield from self._of_other(event)

    @property
    def kept_end(self) -> bool:
        """Whether the run has ended whose events are kept for those who come later."""
        return self._ended and self._is_of_protocol

    def rest(self) -> Iterator[WireEvent]:
        """The events when the reader gives no more: the row of the run may be gone."""
        if self._told and not self._ended:
            self._ended = True
            yield self._lifecycle("interrupted")

    def _begun(self, event: Event) -> Iterator[WireEvent]:
        told = orjson.loads(event.data)
        if "attempt" not in told:
            # It says that events are missing; a client sees that by the numbers.
            return
        # An earlier attempt asked, and was lost before its end was committed.
        self._held.clear()
        self._waits = False
        if told["attempt"] == 1 or event.event_id == 1:
            yield self._lifecycle("running", event.event_id)

    def _of_protocol(self, event: Event) -> Iterator[WireEvent]:
        method, *namespace = event.name.removeprefix(PREFIX).split("|")
        channel = _CHANNEL_OF.get(method, method)
        if method.startswith(CUSTOM):
            method = "custom"
        if found := _TIMESTAMP.search(event.data[:_MOST_HEAD]):
            self._at_ms = int(found[1])
        is_synthetic = method in ("lifecycle", "input.requested")
        told = WireEvent(
            method,
            channel,
            tuple(namespace),
            self._id(event.event_id, method if is_synthetic else None),
            self._number(event.event_id),
            event.data,
        )
        if method == "input.requested":
            self._held.append(told)
        elif method == "lifecycle" and not namespace:
            # The end of the run says it, and comes after this event.
            self._waits = True
        else:
            yield told

    def _of_other(self, event: Event) -> Iterator[WireEvent]:
        self._has_other = True
        mode, *namespace = event.name.split("|")
        if mode in ("values", "updates") and not namespace and _asks(event.data):
            self._waits = True
        if mode not in _OTHER_MODES:
            return
        data = b'{"payload":%b}' % event.data if mode == "custom" else event.data
        yield WireEvent(
            mode,
            mode,
            tuple(namespace),
            self._id(event.event_id),
            self._number(event.event_id),
            _params(tuple(namespace), data, int(time() * 1000)),
        )

    def _end(self, event: Event) -> Iterator[WireEvent]:
        if self._ended or not self._told:
            return
        self._ended = True
        told = orjson.loads(event.data)
        if event.name == "error":
            message = f"{told.get('error')}: {told.get('message')}"
            yield self._lifecycle("failed", error=message)
        elif told.get("status") != "success":
            yield self._lifecycle("interrupted")
        else:
            yield from self._held
            yield self._lifecycle("interrupted" if self._waits else "completed")

    def _lifecycle(self, status: str, event_id: int | None = None, **more: str) -> WireEvent:
        """
        :param event_id: None: it is the end of the run, and comes after the last event.
        """
        data = {"event": status, "graph_name": self._run.graph_id, **more}
        last = self._last_id % _MOST_NUMBERED
        # Events of other routes tell no times. Whatever else there is has the same time in each
        # replay.
        is_past = event_id is not None or not self._has_other
        return WireEvent(
            "lifecycle",
            "lifecycle",
            (),
            self._id(event_id, "lifecycle"),
            self._number(last + 1 if event_id is None else event_id),
            _params((), encode_json(data), self._at_ms if is_past else int(time() * 1000)),
        )

    def _id(self, event_id: int | None, made_as: str | None = None) -> str:
        """Clients leave out what they know by its id, and find the run in ids of this second form:
        of what the server has not from the graph.
        """
        if made_as is None:
            return f"{self._run.run_id}:{event_id}"
        return f"synth:{self._run.run_id}:{made_as}:{'end' if event_id is None else event_id}"

    def _number(self, event_id: int) -> int | None:
        if not 0 < event_id < _MOST_NUMBERED:
            return None
        return self._run.number_before + event_id


def _params(namespace: Namespace, data: bytes, at_ms: int) -> bytes:
    head: dict[str, Any] = {"namespace": list(namespace), "timestamp": at_ms}
    return b'%b,"data":%b}' % (encode_json(head)[:-1], data)


def _asks(data: bytes) -> bool:
    """Whether values or updates of a graph say that it waits."""
    return data.startswith(b'{"__interrupt__":') or (
        b'"__interrupt__":[' in data and data.endswith(b"]}")
    )
