"""What is judged: what the clients were told, and what the database holds when all is quiet."""

import json
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TERMINAL = frozenset({"success", "error", "timeout", "interrupted"})
#: What a run that was rolled back has instead of a status.
GONE = "gone"


@dataclass(frozen=True, slots=True)
class Entry:
    """What one node execution of the chaos graph wrote into its thread's state."""

    turn: str
    run_id: str
    attempt: int
    process: str
    step: int
    at: float = 0.0

    @classmethod
    def read(cls, values: Any) -> "list[Entry] | None":
        """The log in a state; None when the values are no state of the graph."""
        if not isinstance(values, dict) or "__error__" in values:
            return None
        return [cls(**one) for one in values.get("log", [])]


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream as a client got it."""

    id: int | None
    name: str
    data: Any

    @property
    def said(self) -> tuple[str, str]:
        return self.name, json.dumps(self.data, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Failure:
    """One request that got no good answer.

    :ivar request: ``start``, ``follow``, ``status``, or another one that no rule judges.
    :ivar what: a status, or the error of the client.
    """

    request: str
    what: str
    at: float


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """A node has ``begun`` or ``ended``, as it noted by itself."""

    event: str
    run_id: str
    attempt: int
    turn: str
    step: int


@dataclass(slots=True)
class Asked:
    """One thing that a client wanted, and everything it was told about it."""

    #: In the run's metadata, so that its runs are found whatever the client was told.
    name: str
    kind: str
    thread_id: str
    turn: str
    #: Steps of the turn that a run which ends well has made.
    steps: list[int]
    #: All run ids it was given: one, whatever it repeated.
    run_ids: set[str] = field(default_factory=set)
    #: Terminal statuses in the order in which it heard of them.
    told: list[str] = field(default_factory=list)
    #: The logs of the states it was shown as results.
    shown: list[list[Entry]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    #: Of a resumable run: what came over all connections in order, and over a plain one.
    events: list[Event] = field(default_factory=list)
    #: The stream said that it is over.
    stream_ended: bool = False
    #: The same run read again when it was over, by the id after which: -1 is all of it.
    replays: dict[int, list[Event]] = field(default_factory=dict)
    #: How often its stream was joined at another pod.
    joins: int = 0
    #: How its run may end.
    may: list[str] = field(default_factory=lambda: ["success"])
    #: It was told that the thread is busy, and so that there is no run.
    refused: bool = False
    #: No step before that (``after_seconds``).
    not_before: float = 0.0
    #: Its cron, and when that was asked to be deleted.
    cron_id: str | None = None
    deleted_at: float | None = None
    #: Since the epoch: when it asked, was told of its run, and of each in ``told`` and ``shown``.
    asked_at: float = field(default_factory=time.time)
    accepted_at: float | None = None
    told_at: list[float] = field(default_factory=list)
    shown_at: list[float] = field(default_factory=list)

    @property
    def accepted(self) -> bool:
        return bool(self.run_ids) or self.cron_id is not None

    def accept(self, run_id: str) -> None:
        self.run_ids.add(run_id)
        if self.accepted_at is None:
            self.accepted_at = time.time()

    def accept_cron(self, cron_id: str) -> None:
        self.cron_id, self.accepted_at = cron_id, time.time()

    def fail(self, request: str, what: str) -> None:
        self.errors.append(what if request == "start" else f"{request}: {what}")
        self.failures.append(Failure(request, what, time.time()))

    def hear(self, status: str) -> None:
        self.told.append(status)
        self.told_at.append(time.time())

    def see(self, log: list[Entry]) -> None:
        self.shown.append(log)
        self.shown_at.append(time.time())


@dataclass(frozen=True, slots=True)
class Run:
    run_id: str
    thread_id: str
    name: str
    status: str
    attempt: int
    failures: int
    #: When its row was last written, by the commit; None when the server does not know.
    written_at: float | None = None
    #: It names a receiver, which is to be told of its end.
    has_webhook: bool = False


@dataclass(frozen=True, slots=True)
class Firing:
    """A run of a cron: for which slot, and when it was made, since the epoch."""

    cron_id: str
    slot: float
    made_at: float


@dataclass(frozen=True, slots=True)
class Thread:
    thread_id: str
    status: str
    running_run_id: str | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint of a thread's top graph; its id rises with the time it was made."""

    thread_id: str
    id: str
    parent_id: str | None
    run_id: str
    attempt: int
    written_at: float | None = None


@dataclass(slots=True)
class Final:
    """The database, and the servers, after the load has ended and everything had time to settle."""

    runs: list[Run] = field(default_factory=list)
    firings: list[Firing] = field(default_factory=list)
    threads: list[Thread] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    #: In the order in which they were noted.
    node_events: list[NodeEvent] = field(default_factory=list)
    #: Attempts (by run id and number) that a draining process gave back.
    released: set[tuple[str, int]] = field(default_factory=set)
    #: By thread: the log of its state.
    logs: dict[str, list[Entry]] = field(default_factory=dict)
    #: By run: the statuses that the receiver of webhooks was told.
    told_webhooks: dict[str, set[str]] = field(default_factory=dict)
    #: By server process: connections of its pool that nobody will give back.
    leaked: dict[str, int] = field(default_factory=dict)
    #: By server process, for as long as it lived: resident bytes, with the second of the sample.
    memory: dict[str, list[tuple[float, int]]] = field(default_factory=dict)


@dataclass(slots=True)
class History:
    asked: list[Asked] = field(default_factory=list)
    final: Final = field(default_factory=Final)
    #: Since when a standby got nothing any more, and when its primary died (since the epoch).
    promotions: list[tuple[float, float]] = field(default_factory=list)
    #: When processes died without a word, or had to end while their database was silent: from and
    #: until, since the epoch.
    deaths: list[tuple[float, float]] = field(default_factory=list)
    #: The standby got what was committed some time after the clients.
    asynchronous: bool = False

    def save(self, path: Path) -> None:
        """For whoever looks into a violation."""
        path.write_text(json.dumps(asdict(self), indent=1, default=sorted))


def by_thread(checkpoints: Iterable[Checkpoint]) -> dict[str, list[Checkpoint]]:
    found: dict[str, list[Checkpoint]] = defaultdict(list)
    for checkpoint in sorted(checkpoints, key=lambda one: (one.thread_id, one.id)):
        found[checkpoint.thread_id].append(checkpoint)
    return found
