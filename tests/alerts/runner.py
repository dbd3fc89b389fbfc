"""One run: every fault of a plan, and when its alerts fired and ended."""

import asyncio
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headrace.lifecycle import Tasks
from tests.alerts import tour
from tests.alerts.faults import Fault
from tests.alerts.prometheus import Prometheus
from tests.alerts.site import Site
from tests.deploy.expressions import Expression, of_dashboards, of_rules, selectors

#: An alert of a fault has so long to fire, and to end after it.
_WITHIN_SECONDS = 75.0
_POLL_SECONDS = 0.3
_TOUR_SECONDS = 3.0


@dataclass
class Seen:
    """What became of one alert of one fault; seconds since the fault began, and since it ended."""

    alert: str
    fault: str
    fired_after: float | None = None
    ended_after: float | None = None
    description: str = ""


@dataclass
class Outcome:
    seen: list[Seen] = field(default_factory=list)
    #: Alerts that fired beside those that a fault of their stage stands for.
    others: dict[str, set[str]] = field(default_factory=dict)
    unhealthy: dict[str, str] = field(default_factory=dict)
    #: Expressions that never returned anything.
    silent: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def missing(self) -> list[Seen]:
        return [one for one in self.seen if one.fired_after is None or one.ended_after is None]


class Watch:
    """What fires now."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self.firing: dict[str, str] = {}
        #: All that has fired since :meth:`forget`.
        self.fired: set[str] = set()

    async def keep(self) -> None:
        while True:
            found = await asyncio.to_thread(self._prometheus.firing)
            self.firing = {name: one["annotations"]["description"] for name, one in found.items()}
            self.fired |= set(found)
            await asyncio.sleep(_POLL_SECONDS)

    async def until(self, condition: Callable[[], bool]) -> bool:
        """Whether it came true in time."""
        deadline = time.monotonic() + _WITHIN_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True


async def observe(
    site: Site, plan: Sequence[Sequence[Fault]], *, say: Callable[[str], None]
) -> Outcome:
    """Faults, stage by stage."""
    outcome = Outcome()
    began = time.monotonic()
    watch = Watch(site.prometheus)
    tasks = Tasks()
    tasks.start(watch.keep(), name="watch alerts")
    try:
        for stage in plan:
            watch.fired.clear()
            for found in await asyncio.gather(*(_see(site, watch, fault, say) for fault in stage)):
                outcome.seen += found
            names = {name for fault in stage for name in fault.alerts}
            outcome.others[", ".join(fault.name for fault in stage)] = watch.fired - names
    finally:
        await tasks.stop()
    outcome.unhealthy = await asyncio.to_thread(site.prometheus.unhealthy_rules)
    outcome.seconds = time.monotonic() - began
    return outcome


async def ask_every_expression(site: Site) -> list[str]:
    """Those that never returned anything; to be asked at the end.

    Some of what the tours do is refused, which alerts would take for a fault.
    """
    for _ in range(3):
        await asyncio.gather(*(tour.take(site.callers, pod.url) for pod in site.pods))
        await asyncio.sleep(_TOUR_SECONDS)
    return await asyncio.to_thread(silent_expressions, site.prometheus)


async def _see(site: Site, watch: Watch, fault: Fault, say: Callable[[str], None]) -> list[Seen]:
    # What an earlier fault left has to be over, or this one would seem quick.
    await watch.until(lambda: not set(fault.alerts) & set(watch.firing))
    began = time.monotonic()
    seen = [Seen(alert, fault.name) for alert in fault.alerts]
    try:
        async with fault.begin(site):
            await asyncio.gather(*(_fires(watch, one, began) for one in seen))
            await asyncio.sleep(max(0.0, began + fault.seconds - time.monotonic()))
            ended = time.monotonic()
        await asyncio.gather(*(_ends(watch, one, ended) for one in seen))
    except Exception:
        # The other faults are still worth seeing; the alerts of this one are missing.
        say(f"{fault.name}: {traceback.format_exc()}")
    for one in seen:
        say(row(one))
    return seen


async def _fires(watch: Watch, seen: Seen, began: float) -> None:
    if await watch.until(lambda: seen.alert in watch.firing):
        seen.fired_after = time.monotonic() - began
        seen.description = watch.firing.get(seen.alert, "")


async def _ends(watch: Watch, seen: Seen, ended: float) -> None:
    if await watch.until(lambda: seen.alert not in watch.firing):
        seen.ended_after = time.monotonic() - ended


def silent_expressions(prometheus: Prometheus) -> list[str]:
    """Those of dashboards without data, and those of rules that read what was never there."""
    dashboards = [
        one.name
        for one in of_dashboards()
        if not prometheus.whole_time(one.filled(__rate_interval="10s", __range="60s"))
    ]
    rules = [
        f"{one.name} reads {metric}"
        for one in of_rules()
        for metric in sorted(_read(one))
        if not prometheus.whole_time(f'count({{__name__="{metric}"}})')
    ]
    return dashboards + rules


def _read(expression: Expression) -> set[str]:
    return {selector.metric for selector in selectors(expression.text)}


def row(seen: Seen) -> str:
    return f"| `{seen.alert}` | {seen.fault} | {_s(seen.fired_after)} | {_s(seen.ended_after)} |"


def _s(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.0f} s"


def table(outcome: Outcome) -> str:
    """For a terminal and for docs/slo.md."""
    lines = ["| alert | fault | fired after | ended after |", "|---|---|---|---|"]
    lines += [row(one) for one in outcome.seen]
    lines += ["", f"{len(outcome.seen)} alerts in {outcome.seconds:.0f} s"]
    lines += [
        f"also fired, with {stage}: {', '.join(sorted(others))}"
        for stage, others in outcome.others.items()
        if others
    ]
    lines += [f"not evaluated: {name}: {why}" for name, why in outcome.unhealthy.items()]
    lines += [f"no data: {name}" for name in outcome.silent]
    return "\n".join(lines)
