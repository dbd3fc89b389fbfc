"""The timeline of a run in answers: what happened to it, in order, and what that took.

Times are UTC. The times of checkpoints, and of a client that left, come from the process that
executed the run; all others come from the database. Durations are in seconds.
"""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from headrace.queue.rows import Began, CancelReason, Cause
from headrace.runs.schemas import MultitaskStrategy, RunStatus

Outcome = Literal["success", "error", "timeout", "interrupted", "released", "lost"]

At = Annotated[datetime, Field(description="When it happened.")]
AttemptNumber = Annotated[int, Field(description="The number of the attempt; 1 is the first.")]
BeganHow = Annotated[
    Began | None,
    Field(
        description="`in_place` (in the process that got the request), `claimed` (from the queue),"
        " `after_loss` or `after_release` (of the attempt before). Null: not recorded."
    ),
]
ProcessId = Annotated[UUID | None, Field(description="The process that executed the attempt.")]
Hostname = Annotated[
    str | None, Field(description="The host of the process; null when it is not known any more.")
]
Pid = Annotated[int | None, Field(description="The pid of the process, as its host counts.")]
Waited = Annotated[
    float | None,
    Field(description="How long the run had waited in the queue for this attempt."),
]
Seconds = Annotated[float, Field(description="How long it took.")]
Count = Annotated[int, Field(description="How many there are.")]


class TimelineError(BaseModel):
    error: str = Field(description="The class of the error.")
    message: str = Field(description="What the error says.")
    cause: Cause | None = Field(
        description="What is to blame: `graph` (its code, its input or its state), `platform`"
        " (headrace or the database), `timeout`, `deadline` (its own), `lost` (server processes),"
        " `budget` (of tokens) or `unserved` (no process executes the graph). Null for a run that"
        " was stopped, or that an older release has ended."
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
    ended_at: datetime | None = Field(description="When it ended.")
    request_id: str | None = Field(description="`X-Request-ID` of the request that made it.")
    trace_id: str | None = Field(description="Id of its trace.")
    failures: int = Field(description="Lost processes that count against it.")


class TimelineAttempt(BaseModel):
    attempt: AttemptNumber
    began: BeganHow
    process_id: ProcessId
    hostname: Hostname
    pid: Pid
    waited_seconds: Waited
    started_at: datetime = Field(description="When it began.")
    ended_at: datetime | None = Field(
        description="When it ended; for a lost attempt, the last sign of life of its process."
    )
    ended: Outcome | None = Field(
        description="A status of the run, `released` or `lost`. Null: it goes on, or that is not"
        " recorded."
    )
    seconds: float | None = Field(description="How long it was executed; null if not recorded.")


class StepBytes(BaseModel):
    """Stored bytes, after compression."""

    checkpoint: int = Field(description="Bytes of the row: JSON and metadata.")
    values: int | None = Field(description="Bytes of new values; null for a very large checkpoint.")
    writes: int = Field(description="Bytes that the next nodes have written.")


class CreatedEntry(BaseModel):
    kind: Literal["created"] = "created"
    at: At


class AttemptBegan(BaseModel):
    kind: Literal["attempt_began"] = "attempt_began"
    at: At
    attempt: AttemptNumber
    began: BeganHow
    process_id: ProcessId
    hostname: Hostname
    pid: Pid
    waited_seconds: Waited


class CheckpointEntry(BaseModel):
    kind: Literal["checkpoint"] = "checkpoint"
    at: datetime | None = Field(description="Null if its id has no time.")
    checkpoint_id: str = Field(description="Id of the checkpoint.")
    checkpoint_ns: str = Field(description="Namespace of a subgraph; empty: the graph itself.")
    source: str | None = Field(description="`input`, `loop`, `update` or `fork`.")
    step: int | None = Field(description="The number of the step on its thread.")
    nodes: list[str] = Field(
        description="Nodes that ran in the step that ends here. A node that a `Send` has started"
        " is named when it runs for the first time on its thread."
    )
    attempt: int | None = Field(description="The attempt that wrote it.")
    seconds: float | None = Field(description="Time of the step: since the checkpoint before.")
    bytes: StepBytes = Field(description="What it takes in the tables.")


class CancelAsked(BaseModel):
    kind: Literal["cancel_asked"] = "cancel_asked"
    at: datetime | None = Field(description="When it was first asked; null: not recorded.")
    reason: CancelReason | None = Field(
        description="`client` (a cancel), `disconnect` (its client left), `next_run` (another run"
        " of the thread), `deleted`. Null: not recorded."
    )
    note: str | None = Field(description="The `reason` that the client has given.")
    action: Literal["interrupt", "rollback", "delete"] = Field(
        description="What was to become of the run."
    )


class AttemptEnded(BaseModel):
    kind: Literal["attempt_ended"] = "attempt_ended"
    at: At
    attempt: AttemptNumber
    ended: Outcome = Field(description="A status of the run, `released` or `lost`.")
    seconds: Seconds


class Rescued(BaseModel):
    kind: Literal["rescued"] = "rescued"
    at: At
    attempt: int = Field(description="The attempt whose process was lost.")
    silent_seconds: float = Field(description="For how long that process had been silent.")


class InterruptLeft(BaseModel):
    kind: Literal["interrupt"] = "interrupt"
    at: At
    id: str | None = Field(description="Null: an interrupt before or after a node has no id.")
    node: str = Field(description="The node that asks, or that comes next.")


class EventsStored(BaseModel):
    kind: Literal["events"] = "events"
    at: datetime = Field(description="When the first of the stored events was stored.")
    until: datetime = Field(description="When the last of them was stored.")
    count: Count
    bytes: int = Field(description="Their size in bytes.")


class CheckpointsDeleted(BaseModel):
    kind: Literal["checkpoints_deleted"] = "checkpoints_deleted"
    at: datetime | None = Field(description="When the thread was reduced, if retention did it.")


class EndedEntry(BaseModel):
    kind: Literal["ended"] = "ended"
    at: At
    status: RunStatus = Field(description="The status with which the run ended.")
    error: TimelineError | None = Field(description="Why it failed or stopped.")


class ResumedBy(BaseModel):
    kind: Literal["resumed_by"] = "resumed_by"
    at: datetime = Field(description="When that run was made.")
    run_id: UUID = Field(description="The run that answers the interrupts.")


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
    seconds: Seconds
    step: int | None = Field(description="The number of the step on its thread.")
    nodes: list[str] = Field(description="The nodes that ran in it.")
    checkpoint_id: str = Field(description="The checkpoint that ends it.")
    checkpoint_ns: str = Field(description="Namespace of a subgraph; empty: the graph itself.")


class TimelineUsage(BaseModel):
    calls: int = Field(description="Calls of models.")
    input: int = Field(description="Tokens that the models read.")
    output: int = Field(description="Tokens that the models wrote.")
    cached: int = Field(description="Those of the input that came from a cache.")
    reasoning: int = Field(description="Those of the output that were reasoning.")


class TimelineTotals(BaseModel):
    seconds: float = Field(description="From when it might start until its end, or until now.")
    queue_seconds: float = Field(description="How long it waited for a place or for its thread.")
    executing_seconds: float = Field(description="How long attempts executed it.")
    lost_seconds: float = Field(description="Time from the loss of a process to its discovery.")
    attempts: Count
    rescues: Count
    releases: Count
    checkpoints: int = Field(description="Stored now; at most 10,000 are counted.")
    checkpoint_bytes: int = Field(description="Bytes of all its checkpoints, values and writes.")
    steps: int = Field(description="Steps of the graph itself whose checkpoints are stored.")
    longest_step: LongestStep | None = Field(description="The longest step that was finished.")
    after_last_checkpoint_seconds: float | None = Field(
        description="From the newest checkpoint to the end of the last attempt, or until now: the"
        " time of a step that was not finished."
    )
    events: int = Field(description="Stored now; they are deleted some time after the end.")
    event_bytes: int = Field(description="Their size in bytes.")
    tokens: TimelineUsage | None = Field(
        description="Tokens of all attempts; null if none are stored."
    )


class RunTimeline(BaseModel):
    """What happened to one run, in order, and what that took."""

    run: TimelineRun = Field(description="The run itself.")
    resumes: UUID | None = Field(description="The run whose interrupts this run answers.")
    resumed_by: list[UUID] = Field(description="Later runs that answer its interrupts.")
    waited_for: list[UUID] = Field(description="Runs of the thread that had to end before it.")
    attempts: list[TimelineAttempt] = Field(description="Its attempts, oldest first.")
    unrecorded_attempts: int = Field(
        description="Earlier attempts that are not stored: an older release executed them, or"
        " there were more than fifty."
    )
    entries: list[Entry] = Field(description="All that is known, in the order of time.")
    truncated: bool = Field(description="The run has checkpoints that this page leaves out.")
    checkpoints_deleted: bool = Field(
        description="Checkpoints of the run are deleted, as `keep_latest` does."
    )
    totals: TimelineTotals = Field(description="What it took in all.")
