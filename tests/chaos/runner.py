"""One run of chaos, from the start of everything to the history that is judged."""

import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from headrace.lifecycle import Tasks
from tests.chaos.checker import violations
from tests.chaos.faults import Faults
from tests.chaos.final import final_state, read_ledger, settled
from tests.chaos.history import History
from tests.chaos.load import Load
from tests.chaos.memory import watch
from tests.chaos.pods import Pod, lease_settings
from tests.chaos.postgres import Pair
from tests.support.hook_receiver import HookReceiver, hook_receiver
from tests.support.proxy import Proxy

#: Faults begin when half of the clients have a run that is under way; that comes soon.
_BUSY_WITHIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    #: Each fault comes once, and more until this is over.
    seconds: float = 0.0
    pods: int = 2
    processes: int = 2
    #: Clients of each kind.
    clients: int = 2
    #: Empty: all of them.
    kinds: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    #: Streams that nothing disturbs, before the faults, and clients that read them.
    undisturbed: int = 300
    undisturbed_clients: int = 32
    #: Accepted runs have so long to end once nothing goes wrong any more.
    settle_seconds: float = 45.0
    #: Short, so that a minute holds many leases.
    lease_seconds: float = 3.0
    synchronous: bool = True
    #: Without a standby: for faults that need none.
    alone: bool = False
    #: What is taken out of the server (sabotage.py).
    without: str = ""


@dataclass(slots=True)
class Outcome:
    plan: Plan
    history: History
    injected: Counter[str]
    unexpected: list[str]
    #: How long each part took.
    seconds: dict[str, float]
    violations: dict[str, list[str]] = field(default_factory=dict)

    @property
    def found(self) -> int:
        return sum(len(sentences) for sentences in self.violations.values())


class Site:
    """Servers that are ready to be asked."""

    def __init__(
        self, plan: Plan, pair: Pair, pods: list[Pod], ledger: Path, receiver: HookReceiver
    ) -> None:
        self.plan = plan
        self.receiver = receiver
        self.ledger = ledger
        self.pair = pair
        self.pods = pods
        self._seconds: dict[str, float] = {}
        self._since = time.monotonic()

    def passed(self, part: str) -> None:
        """A part ends here, and the next one begins."""
        now = time.monotonic()
        self._seconds[part] = now - self._since
        self._since = now

    async def judge(self, plan: Plan, keep: Path | None = None) -> Outcome:
        """Load, faults, silence, and what the checker says; the servers stay."""
        random = Random(plan.seed)
        load = Load([pod.url for pod in self.pods], random, self.receiver.url)
        history = History(asynchronous=not plan.synchronous)
        tasks = Tasks()
        tasks.start(watch(self.pods, history.final.memory), name="watch memory")
        await load.undisturbed(plan.undisturbed, clients=plan.undisturbed_clients)
        self.passed("undisturbed streams")
        faults = Faults(random, self.pods, self.pair, load, lease_seconds=plan.lease_seconds)
        kinds = plan.kinds or load.kinds
        load.start(kinds, clients=plan.clients)
        try:
            async with asyncio.timeout(_BUSY_WITHIN_SECONDS):
                await load.under_way(len(kinds) * plan.clients // 2)
            await faults.inject(plan.faults or tuple(faults.kinds), seconds=plan.seconds)
            self.passed("faults")
            await load.stop(follow_seconds=plan.settle_seconds)
            await settled(self.pair.url, plan.settle_seconds)
        except BaseException:
            if keep is not None:
                _keep_logs(self.pods, keep)
            raise
        finally:
            await tasks.stop()
        self.passed("the last runs")
        history.asked, history.promotions = load.asked, faults.promotions
        history.deaths = faults.deaths
        await self._read(history)
        unexpected = faults.unexpected + load.unexpected
        outcome = Outcome(plan, history, faults.injected, unexpected, self._seconds)
        outcome.violations = violations(history)
        self.passed("the checker")
        if keep is not None and (outcome.found or unexpected):
            _keep(outcome, self.pods, keep)
        return outcome

    async def _read(self, history: History) -> None:
        memory = history.final.memory
        history.final = await final_state(self.pair.url, self.pods[0].url, history.asked)
        history.final.memory = memory
        history.final.node_events = read_ledger(self.ledger)
        for told in self.receiver.received:
            run = told.json
            history.final.told_webhooks.setdefault(run["run_id"], set()).add(run["status"])
        # What is on loan comes back soon; what never does is lost.
        for _ in range(50):
            leaked: dict[str, int] = {}
            for pod in self.pods:
                leaked |= await asyncio.to_thread(pod.leaked, self.plan.processes)
            history.final.leaked = leaked
            if not any(leaked.values()):
                break
            await asyncio.sleep(0.2)


async def run_chaos(plan: Plan, *, keep: Path | None = None) -> Outcome:
    """
    :param keep: where the history and the servers' logs go if a rule was violated.
    """
    async with site(plan) as ready:
        return await ready.judge(plan, keep)


async def prove(rule: str, plan: Plan, *, tries: int = 4) -> Outcome:
    """Until the checker finds something against the rule: a fault has to meet a run at the right
    moment to do harm, so it may come several times, on servers that stay."""
    async with site(plan) as ready:
        for seed in range(plan.seed, plan.seed + tries):
            outcome = await ready.judge(replace(plan, seed=seed))
            if outcome.violations[rule]:
                break
        return outcome


@asynccontextmanager
async def site(plan: Plan) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="headrace-chaos-", ignore_cleanup_errors=True)
            )
        )
        # Postgres gives up root, and has to get in.
        await asyncio.to_thread(folder.chmod, 0o755)
        pair = Pair(folder, synchronous=plan.synchronous, alone=plan.alone)
        pods: list[Pod] = []
        ledger = folder / "ledger"
        receiver = stack.enter_context(hook_receiver())
        ready = Site(plan, pair, pods, ledger, receiver)
        stack.push_async_callback(asyncio.to_thread, pair.stop)
        await asyncio.to_thread(pair.start)
        environment = {
            "HEADRACE_PROCESSES": str(plan.processes),
            "CHAOS_WITHOUT": plan.without,
            "CHAOS_LEDGER": str(ledger),
            **lease_settings(plan.lease_seconds),
        }
        for number in range(plan.pods):
            proxy = Proxy(pair.server_url)
            await proxy.start()
            stack.push_async_callback(proxy.stop)
            name = f"pod{number}"
            pod = Pod(name, folder / name, proxy, **environment)
            pod.start()
            pods.append(pod)
        stack.push_async_callback(_close, pods)
        await asyncio.gather(*(asyncio.to_thread(pod.wait_ready, plan.processes) for pod in pods))
        ready.passed("the start")
        yield ready


async def _close(pods: list[Pod]) -> None:
    await asyncio.gather(*(asyncio.to_thread(pod.close) for pod in pods))


def _keep(outcome: Outcome, pods: list[Pod], keep: Path) -> None:
    _keep_logs(pods, keep)
    outcome.history.save(keep / "history.json")
    (keep / "violations.json").write_text(json.dumps(outcome.violations, indent=1))


def _keep_logs(pods: list[Pod], keep: Path) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    for pod in pods:
        (keep / f"{pod.name}.log").write_text(pod.log())
