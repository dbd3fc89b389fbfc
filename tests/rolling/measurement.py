"""Rolling restarts of two pods behind nginx under load, and the figures."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.rolling.clients import KINDS, Load, TurnMade
from tests.rolling.proxy import Nginx
from tests.support.live import LiveServer
from tests.support.waiting import wait_until

_GRAPH = Path(__file__).parent / "graph" / "langgraph.json"
#: How long a pod may take from TERM to its end, beyond its grace.
_MARGIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RollingPlan:
    """:ivar longest: seconds of the longest step; the shortest takes 0.2."""

    restarts: int = 4
    clients: int = 12
    longest: float = 5.0
    grace: float = 60.0
    processes: int = 2
    seed: int = 1


@dataclass
class RollingFigures:
    """What was found; all but ``made``, ``drained`` and ``restarts`` should be empty."""

    restarts: int = 0
    made: list[TurnMade] = field(default_factory=list)
    begun_twice: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    drained: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    proxy_errors: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.begun_twice or self.failed or self.events or self.values)

    def table(self) -> str:
        by_kind = Counter(made.kind for made in self.made)
        bad = Counter(made.kind for made in self.made if made.failure)
        steps = sum(len(made.steps) for made in self.made)
        drains = sorted(self.seconds) or [0.0]
        rows = [
            ("rolling restarts", self.restarts),
            ("turns", len(self.made)),
            ("steps", steps),
            ("steps begun twice", len(self.begun_twice)),
            ("requests failed", len(self.failed)),
            ("streams with lost or doubled events", len(self.events)),
            ("turns with wrong values", len(self.values)),
            *((f"runs of drains: {how}", count) for how, count in sorted(self.drained.items())),
        ]
        lines = [f"{name:<42}{count:>8}" for name, count in rows]
        lines += [f"  {kind:<40}{by_kind[kind]:>8}, {bad[kind]} failed" for kind in KINDS]
        lines += [f"drains took {drains[0]:.1f} to {drains[-1]:.1f} s"]
        for found in (self.begun_twice, self.failed, self.events, self.values):
            lines += [f"  ! {sentence}" for sentence in found[:8]]
        lines += [f"  nginx: {line}" for line in self.proxy_errors[-8:]]
        return "\n".join(lines)


class RollingPod(LiveServer):
    """A pod that keeps its port, and whose log grows over restarts."""

    def __init__(self, folder: Path, url: str, ledger: Path, plan: RollingPlan) -> None:
        super().__init__(
            folder,
            url,
            HEADRACE_CONFIG=str(_GRAPH),
            HEADRACE_PROCESSES=str(plan.processes),
            HEADRACE_SERVER__GRACE_SECONDS=str(plan.grace),
            HEADRACE_DATABASE__POOL_MAX="6",
            HEADRACE_OBSERVABILITY__LOG_FORMAT="json",
            ROLLING_LEDGER=str(ledger),
        )
        self._plan = plan
        self._earlier = ""

    def wait_ready(self, processes: int = 2) -> None:
        wait_until(lambda: len(self.serving()) >= self._plan.processes, seconds=150)
        wait_until(lambda: self.status("/readyz") == 200, seconds=90)

    def end(self) -> float:
        """TERM, and wait; how long that took."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        self.wait_exit(self._plan.grace + _MARGIN_SECONDS)
        self._earlier += self.log()
        return time.monotonic() - began

    def all_logs(self) -> str:
        return self._earlier + self.log()


async def measure(plan: RollingPlan, database_url: str, folder: Path) -> RollingFigures:
    """Restart the pods one after the other while clients make turns."""
    ledger = folder / "ledger"
    pods = [RollingPod(folder / name, database_url, ledger, plan) for name in ("one", "two")]
    proxy = Nginx(folder / "nginx", [pod.port for pod in pods])
    figures = RollingFigures()
    try:
        for pod in pods:
            pod.start()
        for pod in pods:
            await asyncio.to_thread(pod.wait_ready)
        proxy.start()
        load = Load(proxy.url, clients=plan.clients, longest=plan.longest, seed=plan.seed)
        making = asyncio.ensure_future(load.make())
        try:
            await _restart(plan, pods, figures)
        finally:
            load.stop()
            await making
        figures.made = load.made
        figures.proxy_errors = proxy.errors()
        logs = "".join(pod.all_logs() for pod in pods)
    finally:
        proxy.stop()
        for pod in pods:
            pod.close()
    figures.drained.update(_how_released(logs))
    judge(figures, ledger.read_text().splitlines())
    return figures


async def _restart(plan: RollingPlan, pods: Sequence[RollingPod], figures: RollingFigures) -> None:
    await asyncio.sleep(2)
    for number in range(plan.restarts):
        pod = pods[number % len(pods)]
        figures.seconds.append(await asyncio.to_thread(pod.end))
        pod.start()
        await asyncio.to_thread(pod.wait_ready)
        figures.restarts += 1
        print(f"restart {number + 1}: drained in {figures.seconds[-1]:.1f} s", flush=True)


def _how_released(logs: str) -> Counter[str]:
    lines = [line for line in logs.splitlines() if '"run_released"' in line]
    at_boundary = sum('"at_boundary":true' in line for line in lines)
    return Counter({"at_boundary": at_boundary, "cut": len(lines) - at_boundary})


def judge(figures: RollingFigures, ledger: Sequence[str]) -> None:
    """Compare what clients got and what the ledger says with what was asked."""
    begun = Counter(tuple(line.split()[:2]) for line in ledger)
    figures.begun_twice = [
        f"step {number} of turn {turn} began {count} times"
        for (turn, number), count in begun.items()
        if count > 1
    ]
    for made in figures.made:
        name = f"{made.kind}, turn {made.turn} of {len(made.steps)} steps"
        if made.failure:
            figures.failed.append(f"{name}: {made.failure}")
        elif made.done != made.numbers:
            figures.values.append(f"{name}: {made.done}")
        elif made.told is not None and made.told != made.numbers:
            figures.events.append(f"{name}: {made.told}")
