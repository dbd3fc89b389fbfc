"""What a round found: goodput, latencies, what must not be, how long recovery took."""

from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from loadtests.measuring.client import Outcome
from loadtests.measuring.figures import percentile
from loadtests.overload.clients import RUN

#: A second of the recovery is normal when its median latency is at most this times the usual one.
_NORMAL = 1.5
_RANKS = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


@dataclass
class Phase:
    """One number of clients for some time."""

    clients: int
    outcome: Outcome
    livez: Outcome
    server_cpu_seconds: float
    #: By ``time.perf_counter``: the measured time.
    began_at: float = 0.0
    ended_at: float = 0.0

    @property
    def goodput(self) -> float:
        """Runs per second that were answered within the time."""
        return self.outcome.statuses.get(RUN, Counter())[200] / self.outcome.seconds

    @property
    def accepted(self) -> int:
        """Runs that were answered, those after the end of the time included."""
        return len(self.outcome.notes.get("accepted", []))

    @property
    def latency_ms(self) -> dict[str, float]:
        """Of answered runs only."""
        found = [one * 1000 for one in self.outcome.notes.get("seconds", [])] or [0.0]
        return {name: round(percentile(found, rank), 1) for name, rank in _RANKS.items()}

    @property
    def livez_ms(self) -> list[float]:
        return self.livez.notes.get("livez", [])

    @property
    def faults(self) -> dict[str, int]:
        """What must not be: answers by kind, and broken connections."""
        told = {
            name: len(found)
            for name, found in [*self.outcome.notes.items(), *self.livez.notes.items()]
            if name not in ("accepted", "seconds", "livez")
        }
        allowed = {200, 429, 503}
        told |= {
            f"status {status}": count
            for status, count in self.outcome.statuses.get(RUN, Counter()).items()
            if status not in allowed
        }
        if broken := self.outcome.broken + self.livez.broken:
            told["broken connections"] = broken
        return told

    def plain(self) -> dict[str, Any]:
        statuses = self.outcome.statuses.get(RUN, Counter())
        return {
            "clients": self.clients,
            "seconds": round(self.outcome.seconds, 1),
            "goodput": round(self.goodput, 1),
            "refused_per_second": round(
                sum(count for status, count in statuses.items() if status != 200)
                / self.outcome.seconds,
                1,
            ),
            "statuses": {str(status): count for status, count in sorted(statuses.items())},
            "latency_ms": self.latency_ms,
            "livez_p99_ms": round(percentile(self.livez_ms or [0.0], 0.99), 1),
            "server_cpu_seconds": round(self.server_cpu_seconds, 2),
            "client_cpu_seconds": round(self.outcome.cpu_seconds, 2),
            "faults": self.faults,
        }


@dataclass
class Round:
    """Some clients, too many clients, and some again."""

    calm: list[Phase]
    crowd: Phase
    after: Phase

    @property
    def peak(self) -> float:
        """The most that few clients got, before the crowd or after it."""
        return max(one.goodput for one in (*self.calm, self.after))

    @property
    def share_of_peak(self) -> float:
        return self.crowd.goodput / self.peak

    @property
    def recovery_seconds(self) -> float:
        """From the end of the crowd until the median latency of each further second is normal.

        Normal is what the same number of clients had before. The time between the two phases
        counts: the last of the crowd are answered then, and new clients start.
        """
        between = max(0.0, self.after.began_at - self.crowd.ended_at)
        notes = self.after.outcome.notes
        found = list(zip(notes.get("accepted", []), notes.get("seconds", []), strict=True))
        end = self.after.outcome.seconds
        bound = _NORMAL * self.calm[0].latency_ms["p50"] / 1000
        seconds: dict[int, list[float]] = {}
        for at, took in found:
            seconds.setdefault(int(at), []).append(took)
        slow = [at for at in range(int(end)) if median(seconds.get(at, [2 * bound])) > bound]
        return between + (slow[-1] + 1 if slow else 0)

    @property
    def phases(self) -> list[Phase]:
        return [*self.calm, self.crowd, self.after]


@dataclass
class Rows:
    """What the database holds of all phases, once the server has settled."""

    by_status: dict[str, int]
    accepted: int
    lease_losses: int
    refusals: dict[str, int] = field(default_factory=dict)

    @property
    def unfinished(self) -> int:
        return sum(self.by_status.get(name, 0) for name in ("pending", "running"))

    @property
    def lost(self) -> int:
        """Runs that were answered and have no successful row."""
        return max(0, self.accepted - self.by_status.get("success", 0))

    @property
    def failed(self) -> int:
        ended = {"success", "pending", "running"}
        return sum(count for status, count in self.by_status.items() if status not in ended)
