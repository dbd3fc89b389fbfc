"""What a process measures about itself: one class for each kind of figures.

The object that knows the figures returns them in this class, the status slot stores them, and
gauges and ``/health`` show them.
"""

from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from headrace.observability.latency import Percentiles
from headrace.thread_pool import ThreadFigures


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """The pool's connections, and the requests that wait for one."""

    size: int
    available: int
    in_use: int
    waiting: int
    max_size: int
    #: Connections that nobody holds and nobody can have; 0 when all is well.
    leaked: int = 0
    #: Connections that are being checked, made, or put in order after their use.
    checking: int = 0


@dataclass(frozen=True, slots=True)
class WriterFigures:
    """Operations that are queued or in flight, and those that wait for a place in the queue."""

    operations: int
    bytes: int
    waiting: int


@dataclass(frozen=True, slots=True)
class FlushFigures:
    """What one try of a flush took."""

    operations: int
    bytes: int
    #: ``committed``, ``retried``, or ``rejected`` when a part of it has to fail.
    outcome: str
    #: How long the oldest operation of the flush has waited.
    queue_seconds: float = 0.0
    pool_seconds: float = 0.0
    database_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """Memory that answers or bodies hold now, and how many of them wait for memory."""

    bytes: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class GateFigures:
    """Places that requests of one kind hold, and requests that wait for one."""

    held: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class CallerFigures:
    """How callers share the places of a process."""

    #: Callers who hold places.
    holding: int = 0
    #: Callers who may take no more, although places are free.
    at_limit: int = 0
    #: Places of the caller who holds most.
    most_places: int = 0


@dataclass(frozen=True, slots=True)
class UnservedGraph:
    """A graph that runs wait for and that no process executes."""

    graph_id: str
    pending: int
    oldest_ready_seconds: float


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """The queue of all pods, as one process of this pod has measured it last."""

    pending: int
    oldest_ready_seconds: float
    #: At most 20 of them.
    unserved: tuple[UnservedGraph, ...] = ()
    #: Crons whose slot has passed without its run, and for how long the first of them.
    crons_overdue: int = 0
    oldest_cron_overdue_seconds: float = 0.0
    #: Messages of webhooks whose calls should have begun, and for how long the first of them.
    webhooks_overdue: int = 0
    oldest_webhook_overdue_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TableFigures:
    """One table, as Postgres's statistics and catalogue describe it.

    Rows are Postgres's estimates. Scans and updates count from the last reset of the statistics.
    """

    name: str
    rows: int
    dead_rows: int
    #: With its TOAST table and its indexes.
    bytes: int
    sequential_scans: int
    #: Rows that those scans have read.
    sequential_rows: int
    updates: int
    #: Updates that changed no index.
    hot_updates: int
    #: Since the last vacuum, manual or automatic. If there was none: since the statistics were
    #: reset, or since the server started.
    since_vacuum_seconds: float
    #: Whether the statistics know of a vacuum.
    vacuumed: bool


@dataclass(frozen=True, slots=True)
class DatabaseFigures:
    """The database of all pods, as one process of this pod has measured it last."""

    tables: tuple[TableFigures, ...]
    #: The age of the oldest transaction or snapshot that holds vacuum back; 0: there is none.
    oldest_transaction_seconds: float
    #: The largest of the threads that had runs most recently; None: not measured.
    largest_thread_bytes: int | None = None
    #: By credential: seconds until it expires. Those that never expire are left out.
    credentials: dict[str, float] = field(default_factory=dict)


class Figures(BaseModel):
    """What a process measures about itself; the part of a slot that changes each second."""

    model_config = ConfigDict(frozen=True)

    pool: PoolFigures | None = None
    writer: WriterFigures | None = None
    answers: MemoryFigures = MemoryFigures()
    gates: dict[str, GateFigures] = {}
    bodies: MemoryFigures = MemoryFigures()
    #: Only one process of the pod measures the queue; None in the others.
    queue: QueueFigures | None = None
    #: Only one process of the pod measures the database; None in the others.
    database: DatabaseFigures | None = None
    #: Seconds until the process has to stop its runs if its lease is not renewed; None: no lease.
    lease_left_seconds: float | None = None
    runs_running: int = 0
    #: For how long the oldest run is executed; 0 if there is none.
    oldest_running_seconds: float = 0.0
    callers: CallerFigures = CallerFigures()
    #: Runs that have ended while their graph, or a thread, goes on; they keep their places.
    deaf_runs: int = 0
    threads: ThreadFigures = ThreadFigures()
    #: Followers of runs that other processes execute.
    runs_watched: int = 0
    threads_watched: int = 0
    #: What is wrong with the password for the database; None: nothing is known.
    login_problem: str | None = None
    #: Whether notices arrive; otherwise polling alone finds what changes elsewhere.
    notices_connected: bool = False
    connections: int = 0
    #: Requests without a whole answer, and the streams and waits among them.
    requests_in_flight: int = 0
    streams_open: int = 0
    #: Bytes of events that wait for slow readers.
    events_waiting_bytes: int = 0
    loop_lag_seconds: float = 0.0
    rss_bytes: int = 0
    open_fds: int = 0
    gc_collections: tuple[int, ...] = ()
    checkpoints: Percentiles = Percentiles()
    #: From the saver's call to the commit of what it writes.
    commits: Percentiles = Percentiles()
    flushes: Percentiles = Percentiles()
    store: Percentiles = Percentiles()
