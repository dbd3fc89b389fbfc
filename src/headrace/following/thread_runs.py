"""The runs of a thread, and which of them a follower wants that has seen a part of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple
from uuid import UUID

from headrace.following.sequence import number_before


@dataclass(frozen=True, slots=True)
class LastSeen:
    """The last thing that a client has seen: an event of a run, or the end of the run."""

    run_id: UUID
    #: None: the client has seen the end of the run.
    event_id: int | None


@dataclass(frozen=True, slots=True)
class LastNumber:
    """The number of the last event that a client has seen; see ``sequence.py``."""

    number: int


#: What a follower has seen of a thread. ``nothing``: it wants all runs that are kept. ``newest``:
#: it wants the runs that have not ended, or else the last one. ``untold``: as ``newest``, but not a
#: last run whose end another follower of this kind was told, unless the thread waits for an answer.
#: None: it wants what is to come.
Seen = LastSeen | LastNumber | Literal["nothing", "newest", "untold"] | None


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run whose events the client gets.

    :param after: the id after which the events are wanted; None: the events to come.
    :param whole: the client gets the end of the run even when none of its events is stored.
    :param number_before: the number before its first event; see ``sequence.py``.
    :param started_ms: when its present or last attempt has started, in ms since the epoch.
    """

    run_id: UUID
    graph_id: str
    after: int | None = 0
    whole: bool = True
    number_before: int = 0
    started_ms: int = 0


class StartedRun(NamedTuple):
    """A row of ``runs_since``."""

    run_id: UUID
    graph_id: str
    started_at: datetime
    ended: bool
    told: bool
    begun_ms: int

    @property
    def number_before(self) -> int:
        return number_before(self.begun_ms)

    def found(self, after: int | None = 0, *, whole: bool = True) -> FoundRun:
        started_ms = int(self.started_at.timestamp() * 1000)
        return FoundRun(self.run_id, self.graph_id, after, whole, self.number_before, started_ms)


def wanted_runs(
    runs: Sequence[StartedRun],
    seen: LastSeen | Literal["nothing"] | None,
    *,
    seen_at: datetime | None,
    running: UUID | None,
) -> Mapping[StartedRun, FoundRun]:
    """
    :param seen_at: when the run that was seen last has started.
    :param running: the run that is executed now.
    """
    found = {run: _wanted(run, seen, seen_at, running) for run in runs}
    return {run: one for run, one in found.items() if one is not None}


def _wanted(
    run: StartedRun,
    seen: LastSeen | Literal["nothing"] | None,
    seen_at: datetime | None,
    running: UUID | None,
) -> FoundRun | None:
    if seen == "nothing":
        return run.found(whole=False)
    if isinstance(seen, LastSeen):
        if run.run_id == seen.run_id:
            return None if seen.event_id is None else run.found(seen.event_id)
        return run.found() if run.started_at > (seen_at or made_at(seen.run_id)) else None
    return run.found(None, whole=False) if run.run_id == running else None


def newest_run(
    runs: Sequence[StartedRun], *, waits: bool, again: bool
) -> Mapping[StartedRun, FoundRun]:
    """The run that goes on; or the last one.

    :param waits: another run is about to start.
    :param again: also a last run whose end was told.
    """
    unfinished = [run for run in runs if not run.ended]
    if unfinished or waits:
        return {run: run.found() for run in unfinished}
    return {run: run.found(whole=False) for run in runs[-1:] if again or not run.told}


def partly_seen(runs: Sequence[StartedRun], seen: Seen) -> StartedRun | None:
    """The run that the last number is of."""
    if not isinstance(seen, LastNumber):
        return None
    begun = [run for run in runs if run.number_before < seen.number]
    return begun[-1] if begun else None


def runs_after_number(
    runs: Sequence[StartedRun], partly: StartedRun | None, number: int, last_id: int
) -> Mapping[StartedRun, FoundRun]:
    """The runs with events after a number.

    :param partly: as :func:`partly_seen`.
    :param last_id: the id of the last stored event of that run. Its end has the next number.
    """
    # A client that has seen nothing needs no end of a run whose events are gone.
    wanted = {run: run.found(whole=number > 0) for run in runs if run.number_before >= number}
    if partly is not None:
        after = number - partly.number_before
        if not partly.ended or not last_id or after <= last_id:
            wanted[partly] = partly.found(after)
    return wanted


def made_at(run_id: UUID) -> datetime:
    """When a run was made, by the time in its id.

    :raises ValueError: the id holds no time; see :func:`is_dated`.
    """
    return datetime.fromtimestamp(int.from_bytes(run_id.bytes[:6], "big") / 1000, UTC)


def is_dated(run_id: UUID) -> bool:
    """Whether the id holds a time."""
    try:
        made_at(run_id)
    except (ValueError, OverflowError, OSError):
        return False
    return True
