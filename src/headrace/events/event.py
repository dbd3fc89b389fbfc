"""One event of a run: its id, its name, and its frame for the stream."""

from dataclasses import dataclass
from typing import Any

from headrace.events.json_encoding import encode_json
from headrace.events.sse import data_of, frame, name_of


@dataclass(slots=True)
class Event:
    """``event_id`` rises within a run, across its attempts. 0: no id, as for the end event."""

    event_id: int
    name: str
    #: Ready to send. It has an id line only if the run is resumable. The JSON is not kept as well:
    #: orjson returns even short JSON in a buffer of 4 KB.
    frame: bytes

    @classmethod
    def stored(cls, event_id: int, name: str, data: bytes, *, resumable: bool) -> "Event":
        """From a row of ``run_events``."""
        return cls(event_id, name, frame(name, data, event_id if resumable else None))

    @classmethod
    def of(cls, event_id: int, name: str, data: Any, *, resumable: bool) -> "Event":
        """From a value of the graph."""
        return cls.stored(event_id, name_of(name), encode_json(data), resumable=resumable)

    @property
    def data(self) -> bytes:
        """JSON text on one line."""
        return data_of(self.frame)

    @property
    def size_bytes(self) -> int:
        return len(self.frame)

    def frame_in_thread(self, run_id: object) -> bytes:
        """The frame for a stream of all runs of a thread. There an id also names the run.

        An error ends a run and has no id. A client that connects again gets the end of the run
        again.
        """
        return frame(self.name, self.data, f"{run_id}:{self.event_id}" if self.event_id else None)


#: The error for clients of a run that was deleted while they read. LangGraph's server sends this
#: text.
RUN_DELETED = {"error": "HTTPException", "message": "404: Run not found"}


#: The message of a run that somebody has cancelled.
CANCELLED = "The run was cancelled."


def stop_error(message: str, note: str | None = None) -> dict[str, str]:
    """The error of a run that was asked to stop.

    :param message: a sentence.
    :param note: what the caller who asked has said about it.
    """
    error = {"error": "UserInterrupt", "message": message}
    return error if note is None else {**error, "reason": note}


def gap_event(run_id: object) -> Event:
    """Tells a client that events before this one are missing: they were not stored."""
    return Event.of(0, "metadata", {"run_id": str(run_id), "missed": True}, resumable=False)


def last_values_event(values: Any) -> Event:
    """The last values of the run, for a client that has missed events; in any stream mode."""
    return Event.of(0, "values", values, resumable=False)


def end_event(run_id: object, status: str, error: dict[str, Any] | None) -> Event:
    """The last event of a stream, made from the run's row. It has no id: no event follows it.

    If a client has cancelled the run and said why, the event repeats that as ``reason``.
    """
    if status in ("error", "timeout") or error == RUN_DELETED:
        return Event.of(0, "error", error, resumable=False)
    end = {"run_id": str(run_id), "status": status}
    if error is not None and "reason" in error:
        end["reason"] = error["reason"]
    return Event.of(0, "end", end, resumable=False)
