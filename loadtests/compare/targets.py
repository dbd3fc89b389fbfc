"""What headrace is held to beside others, and what came of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from loadtests.compare.cells import HttpSample
from loadtests.compare.comparison import Compared
from loadtests.compare.contenders import CEILING, CONTENDERS, HEADRACE, LANGGRAPH_DEV, TUTORIAL
from loadtests.measuring.figures import Judged, Target, ratios, spread

#: Requests per second of headrace to those of a server of this repository, by workload.
_OWN = {
    ("wait", CEILING): Target(0.4, 0.6),
    ("wait", TUTORIAL): Target(2.5, 3.0),
    ("stream", CEILING): Target(0.35, 0.55),
}
#: Processor time of theirs for an answer to headrace's, Postgres included. headrace and the ceiling
#: keep all processors busy, so their requests per second are as their processor time, and targets
#: are those above. The tutorial's processes also wait for their one connection. When headrace
#: answered 2.10 times as much, the tutorial took 1.85 times the processor time: targets are 0.88 of
#: those above.
_PROCESSOR_TIME = {
    ("wait", CEILING): Target(0.4, 0.6),
    ("wait", TUTORIAL): Target(2.2, 2.64),
    ("stream", CEILING): Target(0.35, 0.55),
}
#: To the quickest server of others that keeps runs in Postgres.
_BEST_PEER = {
    "wait": Target(10, 15),
    "threads": Target(4, 8),
    "state": Target(3, 5),
}
_DEV = {"wait": Target(5, 8)}
_THREADS_OF_BOUND = Target(0.7, 0.85)
_LONE = Target(1.2, 1.0, lower_is_better=True)
_POSTGRES_MS = Target(0.4, 0.25, lower_is_better=True)
#: In its place where any machine must pass: what the tutorial's server takes of Postgres to ours.
_POSTGRES_TO_TUTORIAL = Target(2.2, 2.64)
_STATEMENTS = Target(2.0, lower_is_better=True)
#: The client shares the machine with the servers: a costly one would make them all alike. Each
#: piece of an answer wakes it up, so it takes more beside a server that answers more in a second.
_CLIENT_CORES = Target(0.1, lower_is_better=True)
_CLIENT_JUDGED = ("wait", "stream")


@dataclass(frozen=True)
class Bound:
    """What no server can pass that stores a row for each answer: an empty route and its commit.

    A commit is shared by the requests that wait for it: all connections at once.
    """

    commit_ms: float
    connections: int

    def per_second(self, empty_per_second: float) -> float:
        return 1 / (1 / empty_per_second + self.commit_ms / 1000 / self.connections)


def judged(
    found: Compared, bound: Bound, share: float, rate_share: float | None = None
) -> list[Judged]:
    """Every figure that has a target, and ratios that have none.

    :param share: of a floor that is enough.
    :param rate_share: of a floor of requests per second beside the servers of this repository; if
        set, their processor time is judged too, and Postgres's beside theirs, not in milliseconds.
    """
    anywhere = rate_share is not None
    rows = [
        *_processor_time(found, targets=_PROCESSOR_TIME if anywhere else {}),
        *_of_bound(found, bound),
        *_beside_peers(found),
        *_lone(found),
        *_costs(found, anywhere=anywhere),
        *_client(found),
    ]
    rates = _beside_own(found)
    return [
        *(Judged(label, spread(values), to, rate_share or share) for label, values, to in rates),
        *(Judged(label, spread(values), to, share) for label, values, to in rows),
    ]


def not_judged(rows: Sequence[Judged]) -> list[str]:
    """Targets without a figure: their contenders or workloads were left out, or not measured."""
    wanted = [
        *(f"{workload}: to {name}" for workload, name in _OWN),
        *(f"{workload}: to the best peer" for workload in _BEST_PEER),
        *(f"{workload}: to {LANGGRAPH_DEV}" for workload in _DEV),
        "threads: of the bound",
        f"lone wait p50: to {TUTORIAL}",
        "wait: Postgres CPU of a run",
        "wait: statements of a run",
        *(f"{workload}: cores of the client beside {HEADRACE}" for workload in _CLIENT_JUDGED),
    ]
    found = [row.label for row in rows if row.target is not None]
    return [one for one in wanted if not any(label.startswith(one) for label in found)]


_Row = tuple[str, Sequence[float], Target | None]


def _beside_own(found: Compared) -> Iterator[_Row]:
    for workload, by_name in found.own.items():
        for name in by_name:
            if name == HEADRACE or workload in ("empty", "threads"):
                continue
            if values := _rates(by_name, name):
                yield f"{workload}: to {name}", values, _OWN.get((workload, name))


def _processor_time(
    found: Compared, *, targets: Mapping[tuple[str, str], Target]
) -> Iterator[_Row]:
    for workload, by_name in found.own.items():
        ours = by_name.get(HEADRACE, ())
        for name, theirs in by_name.items():
            if (workload, name) in _OWN and len(ours) == len(theirs):
                values = ratios([one.cpu_ms for one in theirs], [one.cpu_ms for one in ours])
                yield f"{workload}: CPU of {name} to ours", values, targets.get((workload, name))


def _of_bound(found: Compared, bound: Bound) -> Iterator[_Row]:
    threads = found.own.get("threads", {}).get(HEADRACE, ())
    empty = found.own.get("empty", {}).get(HEADRACE, ())
    if threads and empty:
        # They are measured one after the other, so rounds do not belong together.
        limit = bound.per_second(median(one.per_second for one in empty))
        values = [one.per_second / limit for one in threads]
        yield f"threads: of the bound {limit:,.0f}/s", values, _THREADS_OF_BOUND


def _beside_peers(found: Compared) -> Iterator[_Row]:
    for workload in _workloads(found):
        best: tuple[float, str, list[float]] | None = None
        for peer, samples in found.peers.items():
            values = _rates(samples.get(workload, {}), peer)
            if not values:
                continue
            target = _DEV.get(workload) if peer == LANGGRAPH_DEV else None
            yield f"{workload}: to {peer}", values, target
            if CONTENDERS[peer].durable and (best is None or median(values) < best[0]):
                best = median(values), peer, values
        if best is not None and workload in _BEST_PEER:
            yield f"{workload}: to the best peer, {best[1]}", best[2], _BEST_PEER[workload]


def _lone(found: Compared) -> Iterator[_Row]:
    if HEADRACE in found.lone and TUTORIAL in found.lone:
        values = ratios(found.lone[HEADRACE], found.lone[TUTORIAL])
        yield f"lone wait p50: to {TUTORIAL}", values, _LONE


def _costs(found: Compared, *, anywhere: bool) -> Iterator[_Row]:
    known, theirs = _postgres_ms(found, HEADRACE), _postgres_ms(found, TUTORIAL)
    if known:
        yield "wait: Postgres CPU of a run, ms", known, None if anywhere else _POSTGRES_MS
    if known and len(known) == len(theirs):
        target = _POSTGRES_TO_TUTORIAL if anywhere else None
        yield "wait: Postgres CPU of tutorial to ours", ratios(theirs, known), target
    for workload, (statements, transactions) in found.statements.items():
        target = _STATEMENTS if workload == "wait" else None
        yield f"{workload}: statements of a run", [statements], target
        yield f"{workload}: transactions of a run", [transactions], None


def _postgres_ms(found: Compared, name: str) -> list[float]:
    samples = found.own.get("wait", {}).get(name, ())
    return [one.postgres_cpu_ms for one in samples if one.postgres_cpu_ms is not None]


def _client(found: Compared) -> Iterator[_Row]:
    """Beside headrace, and beside the server that keeps the client busiest."""
    for workload, by_name in found.own.items():
        cores = {name: [one.client_cores for one in every] for name, every in by_name.items()}
        busiest = max(cores, key=lambda name: median(cores[name]))
        for name in dict.fromkeys((HEADRACE, busiest)):
            if name in cores:
                judges = name == HEADRACE and workload in _CLIENT_JUDGED
                target = _CLIENT_CORES if judges else None
                yield f"{workload}: cores of the client beside {name}", cores[name], target


def _rates(by_name: Mapping[str, Sequence[HttpSample]], other: str) -> list[float]:
    ours, theirs = by_name.get(HEADRACE, ()), by_name.get(other, ())
    if not ours or len(ours) != len(theirs):
        return []
    return ratios([one.per_second for one in ours], [one.per_second for one in theirs])


def _workloads(found: Compared) -> list[str]:
    names: dict[str, None] = {}
    for samples in found.peers.values():
        names |= dict.fromkeys(samples)
    return list(names)
