"""The timeline of a run in answers: what happened to it, in order, and what that took.

Times are UTC. Times of checkpoints, and of a client that left, are of the clock of the process that
executed the run; all others are of the database's clock. Durations are in seconds.
"""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from headrace.queue.rows import CancelReason
from headrace.runs.schemas import MultitaskStrategy, RunStatus

Began = Literal["in_place", "claimed", "after_loss", "after_release"]
Outcome = Literal["success", "error", "timeout", "interrupted", "released", "lost"]
Cause = Literal["graph", "platform", "timeout", "lost", "budget", "unserved"]


class TimelineError(BaseModel):
    error: str = Field(description="The class of the error.")
    message: str
    cause: Cause | None = Field(
        description="What is to blame: `graph` (its code, its input or its state), `platform`"
        " (headrace or the database), `timeout`, `lost` (server processes), `budget` (of tokens) or"
        " `unserved` (no process executes the graph). Null for a run that was stopped."
    )


class TimelineRun(BaseModel):
    run_id: UUID
    thread_id: str
    assistant_id: UUID
    graph_id: str
    status: RunStatus
    error: TimelineError | None = Field(description="Why it failed or stopped.")
    multitask_strategy: MultitaskStrategy
    created_at: datetime = Field(description="When it was made; with a delay: when it may start.")
    started_at: datetime | None = Field(description="When its first attempt began, if known.")
    ended_at: datetime | None
    request_id: str | None = Field(description="`X-Request-ID` of the request that made it.")
    trace_id: str | None = Field(description="Id of its trace.")
    failures: int = Field(description="Lost processes that count against it.")


class TimelineAttempt(BaseModel):
    attempt: int = Field(description="Its number; 1 is the first.")
    began: Began | None = Field(
        description="`in_place` (in the process that got the request), `claimed` (from the queue),"
        " `after_loss` or `after_release` (of the attempt before). Null: not recorded."
    )
    process_id: UUID | None
    hostname: str | None = Field(description="Its host; null when that is not known any more.")
    pid: int | None
    waited_seconds: float | None = Field(
        description="How long the run had waited in the queue for this attempt."
    )
    started_at: datetime
    ended_at: datetime | None = Field(
        description="Of a lost attempt: the last sign of life of its process."
    )
    ended: Outcome | None = Field(
        description="A status of the run, `released` or `lost`. Null: it goes on, or that is not"
        " recorded."
    )
    seconds: float | None


class StepBytes(BaseModel):
    """Stored bytes, after compression."""

    checkpoint: int = Field(description="Of the row: JSON and metadata.")
    values: int | None = Field(description="Of new values; null for a very large checkpoint.")
    writes: int = Field(description="Of what the next nodes have written.")


class CreatedEntry(BaseModel):
    kind: Literal["created"] = "created"
    at: datetime


class AttemptBegan(BaseModel):
    kind: Literal["attempt_began"] = "attempt_began"
    at: datetime
    attempt: int
    began: Began | None
    process_id: UUID | None
    hostname: str | None
    pid: int | None
    waited_seconds: float | None


class CheckpointEntry(BaseModel):
    kind: Literal["checkpoint"] = "checkpoint"
    at: datetime | None = Field(description="Null if its id has no time.")
    checkpoint_id: str
    checkpoint_ns: str
    source: str | None = Field(description="`input`, `loop`, `update` or `fork`.")
    step: int | None
    nodes: list[str] = Field(
        description="Nodes that ran in the step that ends here. A node that a `Send` has started"
        " is named when it runs for the first time on its thread."
    )
    attempt: int | None
    seconds: float | None = Field(description="Time of the step: since the checkpoint before.")
    bytes: StepBytes


class CancelAsked(BaseModel):
    kind: Literal["cancel_asked"] = "cancel_asked"
    at: datetime | None
    reason: CancelReason | None = Field(
        description="`client` (a cancel), `disconnect` (its client left), `next_run` (another run"
        " of the thread), `deleted`. Null: not recorded."
    )
    action: Literal["interrupt", "rollback", "delete"]


class AttemptEnded(BaseModel):
    kind: Literal["attempt_ended"] = "attempt_ended"
    at: datetime
    attempt: int
    ended: Outcome
    seconds: float


class Rescued(BaseModel):
    kind: Literal["rescued"] = "rescued"
    at: datetime
    attempt: int = Field(description="The attempt whose process was lost.")
    silent_seconds: float = Field(description="Since the last sign of life of that process.")


class InterruptLeft(BaseModel):
    kind: Literal["interrupt"] = "interrupt"
    at: datetime | None
    id: str | None = Field(description="Null: an interrupt before or after a node has no id.")
    node: str


class EventsStored(BaseModel):
    kind: Literal["events"] = "events"
    at: datetime = Field(description="When the first of the stored events was stored.")
    until: datetime
    count: int
    bytes: int


class CheckpointsDeleted(BaseModel):
    kind: Literal["checkpoints_deleted"] = "checkpoints_deleted"
    at: datetime | None = Field(description="When the thread was reduced, if retention did it.")


class EndedEntry(BaseModel):
    kind: Literal["ended"] = "ended"
    at: datetime
    status: RunStatus
    error: TimelineError | None


class ResumedBy(BaseModel):
    kind: Literal["resumed_by"] = "resumed_by"
    at: datetime = Field(description="When that run was made.")
    run_id: UUID


Entry = Annotated[
    CreatedEntry
    | AttemptBegan
    | CheckpointEntry
    | CancelAsked
    | AttemptEnded
    | Rescued
    | InterruptLeft
    | EventsStored
    | CheckpointsDeleted
    | EndedEntry
    | ResumedBy,
    Field(discriminator="kind"),
]


class LongestStep(BaseModel):
    seconds: float
    step: int | None
    nodes: list[str]
    checkpoint_id: str
    checkpoint_ns: str


class Tokens(BaseModel):
    calls: int
    input: int
    output: int
    cached: int
    reasoning: int


class TimelineTotals(BaseModel):
    seconds: float = Field(description="From when it might start until its end, or until now.")
    queue_seconds: float = Field(description="In which it waited for a place or for its thread.")
    executing_seconds: float = Field(description="In which an attempt executed it.")
    lost_seconds: float = Field(description="From losses of processes to their discovery.")
    attempts: int
    rescues: int
    releases: int
    checkpoints: int = Field(description="Stored now; at most 10,000 are counted.")
    checkpoint_bytes: int = Field(description="Of all its checkpoints, values and writes.")
    steps: int = Field(description="Steps of the graph itself whose checkpoints are stored.")
    longest_step: LongestStep | None = Field(description="Of the steps that were finished.")
    after_last_checkpoint_seconds: float | None = Field(
        description="From the newest checkpoint to the end of the last attempt, or until now: the"
        " time of a step that was not finished."
    )
    events: int
    event_bytes: int
    tokens: Tokens | None


class RunTimeline(BaseModel):
    """One run, told: what happened to it, in order, and what that took."""

    run: TimelineRun
    resumes: UUID | None = Field(description="The run whose interrupts this run answers.")
    resumed_by: list[UUID] = Field(description="Later runs that answer its interrupts.")
    waited_for: list[UUID] = Field(description="Runs of the thread that had to end before it.")
    attempts: list[TimelineAttempt]
    unrecorded_attempts: int = Field(
        description="Earlier attempts of which nothing is stored: they were of an older release,"
        " or there were more than fifty."
    )
    entries: list[Entry] = Field(description="All that is known, in the order of time.")
    truncated: bool = Field(description="The run has checkpoints that this page leaves out.")
    checkpoints_deleted: bool = Field(
        description="Checkpoints of the run are deleted, as `keep_latest` does."
    )
    totals: TimelineTotals
