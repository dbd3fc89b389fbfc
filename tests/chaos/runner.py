"""One run of chaos, from the start of everything to the history that is judged."""

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx
import psycopg

from headrace.lifecycle import Tasks
from tests.chaos.checker import violations
from tests.chaos.faults import Faults
from tests.chaos.history import Asked, Checkpoint, Entry, Final, History, Run, Thread
from tests.chaos.load import NEEDS, Load
from tests.chaos.pods import Pod
from tests.chaos.postgres import Pair
from tests.support.proxy import Proxy

#: Of a row, to be read only once nothing changes any more.
_WRITTEN_AT = "extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8"


@dataclass(frozen=True, slots=True)
class Plan:
    seconds: float
    seed: int
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
    synchronous: bool = True
    #: What is taken out of the server (sabotage.py).
    without: str = ""


@dataclass(slots=True)
class Outcome:
    plan: Plan
    history: History
    injected: Counter[str]
    unexpected: list[str]
    #: Kinds of clients for which the server has no route yet.
    passed_over: list[str] = field(default_factory=list)
    violations: dict[str, list[str]] = field(default_factory=dict)

    @property
    def found(self) -> int:
        return sum(len(sentences) for sentences in self.violations.values())


async def run_chaos(plan: Plan, *, keep: Path | None = None) -> Outcome:
    """
    :param keep: where the history and the servers' logs go if a rule was violated.
    """
    random = Random(plan.seed)
    async with _cluster(plan) as (pair, pods):
        urls = [pod.url for pod in pods]
        load = Load(urls, random, routes=await _routes(urls[0]))
        kinds = plan.kinds or tuple(load.kinds)
        memory = await _steadily(load, pods, plan)
        faults = Faults(random, pods, pair, load)
        load.start(kinds, clients=plan.clients)
        try:
            await faults.inject(plan.faults or tuple(faults.kinds), seconds=plan.seconds)
        except BaseException:
            if keep is not None:
                _keep_logs(pods, keep)
            raise
        await load.stop(follow_seconds=plan.settle_seconds)
        await _settled(pair.url, plan.settle_seconds)
        final = await _final(pair.url, urls, load.asked)
        final.memory = memory
        final.leaked = await _leaked(pods)
        history = History(load.asked, final)
        unexpected = faults.unexpected + load.unexpected
        outcome = Outcome(plan, history, faults.injected, unexpected)
        outcome.violations = violations(history)
        outcome.passed_over = sorted(NEEDS.keys() - set(load.kinds))
        if keep is not None and outcome.found:
            _keep(outcome, pods, keep)
    return outcome


@asynccontextmanager
async def _cluster(plan: Plan) -> AsyncIterator[tuple[Pair, list[Pod]]]:
    async with AsyncExitStack() as stack:
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="headrace-chaos-", ignore_cleanup_errors=True)
            )
        )
        # Postgres gives up root, and has to get in.
        await asyncio.to_thread(folder.chmod, 0o755)
        pair = Pair(folder, synchronous=plan.synchronous)
        stack.callback(pair.stop)
        await asyncio.to_thread(pair.start)
        pods: list[Pod] = []
        environment = {"HEADRACE_PROCESSES": str(plan.processes), "CHAOS_WITHOUT": plan.without}
        for number in range(plan.pods):
            proxy = Proxy(pair.url)
            await proxy.start()
            stack.push_async_callback(proxy.stop)
            name = f"pod{number}"
            pod = Pod(name, folder / name, proxy, **environment)
            stack.push_async_callback(asyncio.to_thread, pod.close)
            pod.start()
            pods.append(pod)
        for pod in pods:
            await asyncio.to_thread(pod.wait_ready, plan.processes)
        yield pair, pods


async def _routes(url: str) -> set[str]:
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:
        return set((await client.get("/openapi.json")).json()["paths"])


async def _steadily(load: Load, pods: list[Pod], plan: Plan) -> dict[str, list[int]]:
    """Streams without faults; the memory of the processes meanwhile."""
    memory: dict[str, list[int]] = {}

    async def measure() -> None:
        while True:
            for pod in pods:
                for process, size in pod.memory().items():
                    memory.setdefault(process, []).append(size)
            await asyncio.sleep(0.5)

    tasks = Tasks()
    tasks.start(measure(), name="measure")
    await load.undisturbed(plan.undisturbed, clients=plan.undisturbed_clients)
    await tasks.stop()
    return memory


async def _settled(url: str, seconds: float) -> None:
    """Return once no run is active, or the time is over: then the checker says so."""
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(seconds),
            await psycopg.AsyncConnection.connect(url, autocommit=True) as database,
        ):
            while True:
                cursor = await database.execute("SELECT count(*) FROM runs WHERE ended_at IS NULL")
                if await cursor.fetchone() == (0,):
                    return
                await asyncio.sleep(0.1)


async def _final(url: str, urls: list[str], asked: Iterable[Asked]) -> Final:
    final = Final()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
        cursor = await database.execute(
            "SELECT run_id::text, thread_id, coalesce(metadata->>'chaos', ''), status, attempt,"
            f" failures, {_WRITTEN_AT} FROM runs"
        )
        final.runs = [Run(*row) for row in await cursor.fetchall()]
        cursor = await database.execute(
            "SELECT thread_id, status, running_run_id::text FROM threads"
        )
        final.threads = [Thread(*row) for row in await cursor.fetchall()]
        cursor = await database.execute(
            "SELECT thread_id, checkpoint_id, parent_checkpoint_id, metadata->>'run_id',"
            f" (metadata->>'run_attempt')::int, {_WRITTEN_AT}"
            " FROM checkpoints WHERE checkpoint_ns = ''"
        )
        final.checkpoints = [Checkpoint(*row) for row in await cursor.fetchall()]
    there = {thread.thread_id for thread in final.threads}
    wanted = iter({one.thread_id for one in asked if one.kind != "undisturbed"} & there)

    async def read() -> None:
        async with httpx.AsyncClient(base_url=urls[0], timeout=30) as client:
            for thread_id in wanted:
                state = (await client.get(f"/threads/{thread_id}/state")).raise_for_status()
                final.logs[thread_id] = Entry.read(state.json()["values"]) or []

    await asyncio.gather(*(read() for _ in range(4)))
    return final


async def _leaked(pods: list[Pod]) -> dict[str, int]:
    """What is on loan comes back soon; what never does is lost."""
    leaked: dict[str, int] = {}
    for _ in range(50):
        leaked = {}
        for pod in pods:
            leaked |= await asyncio.to_thread(pod.leaked)
        if not any(leaked.values()):
            break
        await asyncio.sleep(0.2)
    return leaked


def _keep(outcome: Outcome, pods: list[Pod], keep: Path) -> None:
    _keep_logs(pods, keep)
    outcome.history.save(keep / "history.json")
    (keep / "violations.json").write_text(json.dumps(outcome.violations, indent=1))


def _keep_logs(pods: list[Pod], keep: Path) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    for pod in pods:
        (keep / f"{pod.name}.log").write_text(pod.log())
