"""Live gauges, read from the status slots at each scrape.

Most figures have three series: ``headrace_x`` is the sum over the processes of the pod, and
``headrace_x_min`` and ``headrace_x_max`` are the extremes: a sum hides the one process whose pool
is starved. A unit stands last: ``headrace_x_min_bytes``. They are separate names, not a label, so
that a name can be summed over pods. Loop lag, ``caller_places``, ``lease_left_seconds`` and the
start times have only the extremes. Figures of the queue and of the database have one series.
"""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headrace.observability.database_gauges import database_families
from headrace.observability.figures import Figures, MemoryFigures, PoolFigures, WriterFigures
from headrace.observability.slots import Slot, StatusBoard

#: A unit stands last in a metric's name.
_UNITS = ("_seconds", "_bytes")
_PROCESS_STATES = ("starting", "serving", "draining", "stale")

#: Name, help text, and how to read the figure.
_POOL_GAUGES: tuple[tuple[str, str, Callable[[PoolFigures], float]], ...] = (
    ("pool_size", "Connections in the pool.", lambda pool: pool.size),
    ("pool_available", "Connections that are free.", lambda pool: pool.available),
    ("pool_in_use", "Connections that are in use.", lambda pool: pool.in_use),
    ("pool_waiting", "Requests that wait for a connection.", lambda pool: pool.waiting),
    ("pool_max_size", "Connections the pool may open.", lambda pool: pool.max_size),
    (
        "pool_checking",
        "Connections that are being checked, made, or put in order.",
        lambda pool: pool.checking,
    ),
    ("pool_leaked", "Connections that nobody holds or can have.", lambda pool: pool.leaked),
)
_WRITER_GAUGES: tuple[tuple[str, str, Callable[[WriterFigures], float]], ...] = (
    ("writes_queued", "Writes queued or in flight.", lambda writer: writer.operations),
    ("writes_queued_bytes", "Bytes queued or in flight.", lambda writer: writer.bytes),
    ("writes_waiting", "Writes that wait for a place in the queue.", lambda writer: writer.waiting),
)
_ANSWER_GAUGES: tuple[tuple[str, str, Callable[[MemoryFigures], float]], ...] = (
    ("answers_bytes", "Memory that answers with large states take.", lambda answers: answers.bytes),
    ("answers_waiting", "Answers that wait for that memory.", lambda answers: answers.waiting),
)
_BODY_GAUGES: tuple[tuple[str, str, Callable[[MemoryFigures], float]], ...] = (
    (
        "bodies_bytes",
        "Memory that large request bodies and what is parsed from them take.",
        lambda bodies: bodies.bytes,
    ),
    ("bodies_waiting", "Bodies that wait for that memory.", lambda bodies: bodies.waiting),
)
_PROCESS_GAUGES: tuple[tuple[str, str, Callable[[Figures], float]], ...] = (
    ("runs_running", "Runs being executed.", lambda figures: figures.runs_running),
    (
        "callers_at_limit",
        "Callers who hold as many places for runs as their share allows, while others are free.",
        lambda figures: figures.callers.at_limit,
    ),
    (
        "deaf_runs",
        "Runs that have ended while their graph, or a thread, goes on.",
        lambda figures: figures.deaf_runs,
    ),
    ("worker_threads_busy", "Threads that work for runs.", lambda figures: figures.threads.busy),
    (
        "worker_threads_most",
        "Threads that may work for runs.",
        lambda figures: figures.threads.most,
    ),
    ("runs_watched", "Followers of runs executed elsewhere.", lambda figures: figures.runs_watched),
    ("threads_watched", "Streams of whole threads.", lambda figures: figures.threads_watched),
    (
        "login_problem",
        "1 where the password for the database cannot be read, or is refused.",
        lambda figures: int(figures.login_problem is not None),
    ),
    (
        "notices_connected",
        "1 where notices of other processes arrive, 0 where only polling finds changes.",
        lambda figures: int(figures.notices_connected),
    ),
    (
        "events_waiting_bytes",
        "Bytes of events that wait for readers.",
        lambda figures: figures.events_waiting_bytes,
    ),
    ("connections_open", "Open connections of clients.", lambda figures: figures.connections),
    (
        "requests_in_flight",
        "Requests without a whole answer.",
        lambda figures: figures.requests_in_flight,
    ),
    ("streams_open", "Streams and waits that are open.", lambda figures: figures.streams_open),
    ("resident_memory_bytes", "Resident memory.", lambda figures: figures.rss_bytes),
    ("open_fds", "Open file descriptors.", lambda figures: figures.open_fds),
)


class SlotCollector(Collector):
    """Collects from the slots that are on the board."""

    def __init__(self, board: StatusBoard) -> None:
        self._board = board

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: naming the series would read the slots of a process that still starts."""
        return []

    def collect(self) -> Iterator[Metric]:
        slots = self._board.read_all()
        yield self._processes(slots)
        yield from _extremes(
            "process_start_time_seconds",
            "Start of a process, in seconds since the epoch.",
            [slot.started_at for slot in slots],
        )
        figures = [slot.figures for slot in slots if slot.figures is not None]
        pools = [item.pool for item in figures if item.pool is not None]
        for name, text, of_pool in _POOL_GAUGES:
            yield from _sum_min_max(name, text, [of_pool(pool) for pool in pools])
        writers = [item.writer for item in figures if item.writer is not None]
        for name, text, of_writer in _WRITER_GAUGES:
            yield from _sum_min_max(name, text, [of_writer(writer) for writer in writers])
        answers = [item.answers for item in figures]
        for name, text, of_answers in _ANSWER_GAUGES:
            yield from _sum_min_max(name, text, [of_answers(one) for one in answers])
        bodies = [item.bodies for item in figures]
        for name, text, of_bodies in _BODY_GAUGES:
            yield from _sum_min_max(name, text, [of_bodies(one) for one in bodies])
        for name, text, of_process in _PROCESS_GAUGES:
            yield from _sum_min_max(name, text, [of_process(item) for item in figures])
        yield from _oldest_running(figures)
        yield from _gates(figures)
        yield from _queue(figures)
        yield from _extremes(
            "loop_lag_seconds",
            "Worst event-loop delay of the last 15 s, in seconds.",
            [item.loop_lag_seconds for item in figures],
        )
        yield from _extremes(
            "caller_places",
            "Places for runs that the caller with the most places holds.",
            [item.callers.most_places for item in figures],
        )
        yield from _extremes(
            "lease_left_seconds",
            "Seconds until the process stops its runs if its lease is not renewed.",
            [item.lease_left_seconds for item in figures if item.lease_left_seconds is not None],
        )
        yield from database_families(figures)

    def _processes(self, slots: Sequence[Slot]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "headrace_processes",
            "Server processes of this pod; stale ones no longer report.",
            labels=("state",),
        )
        states = ["stale" if self._board.is_stale(slot) else slot.state for slot in slots]
        for state in _PROCESS_STATES:
            family.add_metric((state,), states.count(state))
        return family


def _sum_min_max(name: str, text: str, found: list[float]) -> Iterator[GaugeMetricFamily]:
    if found:
        yield GaugeMetricFamily(f"headrace_{name}", f"{text} Sum of processes.", value=sum(found))
        yield from _extremes(name, text, found)


def _extremes(name: str, text: str, found: list[float]) -> Iterator[GaugeMetricFamily]:
    unit = next((one for one in _UNITS if name.endswith(one)), "")
    stem = name.removesuffix(unit)
    if found:
        for kind, value in (("min", min(found)), ("max", max(found))):
            yield GaugeMetricFamily(
                f"headrace_{stem}_{kind}{unit}", f"{text} {kind.title()} of processes.", value=value
            )


def _queue(figures: Sequence[Figures]) -> Iterator[GaugeMetricFamily]:
    """The figures of the queue. All pods share it, so do not sum them over pods."""
    seen = [item.queue for item in figures if item.queue is not None]
    if seen:
        yield GaugeMetricFamily(
            "headrace_runs_pending",
            "Runs that wait in the queue of all pods; counted up to 10000.",
            value=max(queue.pending for queue in seen),
        )
        yield GaugeMetricFamily(
            "headrace_oldest_ready_seconds",
            "Seconds since the longest ready run of the queue could be claimed.",
            value=max(queue.oldest_ready_seconds for queue in seen),
        )
        yield GaugeMetricFamily(
            "headrace_crons_overdue",
            "Crons of all pods whose slot has passed without its run; counted up to 10000.",
            value=max(queue.crons_overdue for queue in seen),
        )
        yield GaugeMetricFamily(
            "headrace_oldest_cron_overdue_seconds",
            "Seconds since the oldest of these slots; 0 if there is none.",
            value=max(queue.oldest_cron_overdue_seconds for queue in seen),
        )
        yield GaugeMetricFamily(
            "headrace_webhooks_overdue",
            "Messages of webhooks of all pods whose calls should have begun; counted up to 10000.",
            value=max(queue.webhooks_overdue for queue in seen),
        )
        yield GaugeMetricFamily(
            "headrace_oldest_webhook_overdue_seconds",
            "Seconds since the oldest of these calls was due; 0 if there is none.",
            value=max(queue.oldest_webhook_overdue_seconds for queue in seen),
        )
        unserved = GaugeMetricFamily(
            "headrace_runs_unserved",
            "Runs that wait for a graph that no process executes, by graph; of 20 graphs.",
            labels=("graph",),
        )
        for graph in max(seen, key=lambda queue: len(queue.unserved)).unserved:
            unserved.add_metric((graph.graph_id,), graph.pending)
        yield unserved


def _oldest_running(figures: Sequence[Figures]) -> Iterator[GaugeMetricFamily]:
    """Only the greatest age of all processes means something."""
    if figures:
        yield GaugeMetricFamily(
            "headrace_oldest_running_seconds",
            "Seconds since the oldest run that is being executed began; 0 if there is none.",
            value=max(one.oldest_running_seconds for one in figures),
        )


def _gates(figures: Sequence[Figures]) -> Iterator[GaugeMetricFamily]:
    """Places that requests hold at each gate, and requests that wait for one."""
    for suffix, aggregate in (("", sum), ("_min", min), ("_max", max)):
        family = GaugeMetricFamily(
            f"headrace_gate_places{suffix}",
            "Places that requests hold, and requests that wait for one, by gate.",
            labels=("gate", "state"),
        )
        for gate in sorted({name for item in figures for name in item.gates}):
            found = [item.gates[gate] for item in figures if gate in item.gates]
            family.add_metric((gate, "held"), aggregate([one.held for one in found]))
            family.add_metric((gate, "waiting"), aggregate([one.waiting for one in found]))
        yield family
