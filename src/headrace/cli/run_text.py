"""A timeline of a run as lines for a terminal."""

from collections.abc import Iterator
from datetime import datetime

from headrace.observability.printable import printable
from headrace.runs.timeline_schemas import (
    AttemptBegan,
    AttemptEnded,
    CancelAsked,
    CheckpointEntry,
    CheckpointsDeleted,
    CreatedEntry,
    EndedEntry,
    Entry,
    EventsStored,
    InterruptLeft,
    Rescued,
    ResumedBy,
    RunTimeline,
    TimelineError,
)

_BEGAN = {
    "in_place": "in place",
    "claimed": "from the queue",
    "after_loss": "after a rescue",
    "after_release": "after a release",
    None: "(how is not recorded)",
}


def lines(timeline: RunTimeline) -> Iterator[str]:
    """A head, one line for each entry with the seconds since the run was made, and totals."""
    yield from _head(timeline)
    yield ""
    for entry in timeline.entries:
        yield f"{_offset(entry.at, timeline.run.created_at)}  {printable(_told(entry))}"
    if timeline.truncated:
        yield f"{'':>13}  (older checkpoints are left out; --limit shows more)"
    yield ""
    yield from _totals(timeline)


def _head(timeline: RunTimeline) -> Iterator[str]:
    run, totals = timeline.run, timeline.totals
    yield f"run        {run.run_id}  {run.status}, {_seconds(totals.seconds)}"
    yield f"thread     {printable(run.thread_id)}"
    yield f"graph      {printable(run.graph_id)}  assistant {run.assistant_id}"
    yield f"created    {run.created_at:%Y-%m-%d %H:%M:%S.%f} UTC"
    if run.request_id:
        yield f"request    {printable(run.request_id)}"
    if run.trace_id:
        yield f"trace      {printable(run.trace_id)}"
    if run.error:
        yield f"error      {printable(_error(run.error))}"
    if timeline.resumes:
        yield f"resumes    {timeline.resumes}"
    for run_id in timeline.resumed_by:
        yield f"resumed by {run_id}"
    for run_id in timeline.waited_for:
        yield f"waited for {run_id}"
    if timeline.unrecorded_attempts:
        yield f"unknown    {timeline.unrecorded_attempts} attempts are not recorded"


def _totals(timeline: RunTimeline) -> Iterator[str]:
    totals = timeline.totals
    yield (
        f"time       {_seconds(totals.queue_seconds)} in the queue,"
        f" {_seconds(totals.executing_seconds)} executing, {_seconds(totals.lost_seconds)} lost"
    )
    yield (
        f"attempts   {totals.attempts}, rescues {totals.rescues}, releases {totals.releases},"
        f" failures {timeline.run.failures}"
    )
    yield (
        f"stored     {totals.checkpoints} checkpoints {_bytes(totals.checkpoint_bytes)},"
        f" {totals.events} events {_bytes(totals.event_bytes)}"
    )
    if (longest := totals.longest_step) is not None:
        nodes = printable(", ".join(longest.nodes) or "no node")
        yield f"longest    {_seconds(longest.seconds)}: step {longest.step}, {nodes}"
    rest = totals.after_last_checkpoint_seconds
    if rest is not None and timeline.run.status != "success":
        yield f"unfinished {_seconds(rest)} after the last checkpoint"
    if (tokens := totals.tokens) is not None:
        yield f"tokens     {tokens.input} in, {tokens.output} out, {tokens.calls} calls"


def _told(entry: Entry) -> str:
    match entry:
        case CreatedEntry():
            return "created"
        case AttemptBegan():
            return _began(entry)
        case CheckpointEntry():
            return _checkpoint(entry)
        case CancelAsked():
            note = f": {entry.note}" if entry.note else ""
            return f"asked to stop ({entry.action}), reason: {entry.reason or 'not recorded'}{note}"
        case AttemptEnded(ended="lost"):
            return f"attempt {entry.attempt}: last sign of life, after {_seconds(entry.seconds)}"
        case AttemptEnded():
            return f"attempt {entry.attempt} ended: {entry.ended}, after {_seconds(entry.seconds)}"
        case Rescued():
            silent = _seconds(entry.silent_seconds)
            return f"rescued: the process of attempt {entry.attempt} had been silent for {silent}"
        case InterruptLeft():
            return f"interrupt in {entry.node}, id {entry.id or 'none'}"
        case EventsStored():
            return f"{entry.count} events stored from here on, {_bytes(entry.bytes)}"
        case CheckpointsDeleted():
            return "checkpoints of the run are deleted (keep_latest or retention)"
        case EndedEntry():
            return f"ended: {entry.status}" + (f", {_error(entry.error)}" if entry.error else "")
        case ResumedBy():
            return f"resumed by {entry.run_id}"


def _began(entry: AttemptBegan) -> str:
    where = ""
    if entry.hostname:
        where = f" on {entry.hostname} pid {entry.pid}"
    elif entry.process_id:
        where = f" in process {entry.process_id}"
    waited = f", waited {_seconds(entry.waited_seconds)}" if entry.waited_seconds else ""
    return f"attempt {entry.attempt} began {_BEGAN[entry.began]}{where}{waited}"


def _checkpoint(entry: CheckpointEntry) -> str:
    size = entry.bytes.checkpoint + (entry.bytes.values or 0) + entry.bytes.writes
    nodes = ", ".join(entry.nodes) or entry.source or "?"
    where = f" in {entry.checkpoint_ns}" if entry.checkpoint_ns else ""
    took = "?" if entry.seconds is None else _seconds(entry.seconds)
    return f"step {entry.step:>3}  {took:>10}  {_bytes(size):>9}  {nodes}{where}"


def _error(error: TimelineError) -> str:
    cause = f" ({error.cause})" if error.cause else ""
    return f"{error.error}{cause}: {error.message}"


def _offset(at: datetime | None, start: datetime) -> str:
    return f"{'':>13}" if at is None else f"{(at - start).total_seconds():>+11.3f} s"


def _seconds(value: float) -> str:
    return f"{value:.3f} s"


def _bytes(value: int) -> str:
    """In the largest unit of which there is one at least."""
    size = float(value)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
