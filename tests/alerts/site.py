"""Two pods over one Postgres, callers, and a Prometheus that watches the pods."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage

import psycopg

from tests.alerts.load import Callers, Locust
from tests.alerts.pods import ELSEWHERE, AlertPod, started
from tests.alerts.prometheus import Prometheus
from tests.alerts.shortened import shortened
from tests.chaos.postgres import Server
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

#: The rules are so many times as fast as the true ones.
FACTOR = 30
_MEBIBYTE = 2**20
#: So much less than now has to be free before the directory of metrics counts as full.
_MARGIN_BYTES = 1024 * _MEBIBYTE

#: In place of the defaults: what a fault of seconds reaches.
THRESHOLDS: dict[str, float] = {
    "queueSeconds": 4,
    "firstEventSeconds": 2.5,
    "oldTransactionMinutes": 0.2,
    "vacuumHours": 0.002,
    "largeThreadMiB": 8,
    "cronLateSeconds": 3,
    "webhookLateSeconds": 3,
}


@dataclass
class Site:
    folder: Path
    postgres: Server
    pods: list[AlertPod]
    proxies: list[Proxy]
    callers: Callers
    prometheus: Prometheus
    #: How many runs the table holds in the fault of tables.
    rows: int
    locusts: list[Locust] = field(default_factory=list)

    @asynccontextmanager
    async def elsewhere(self) -> AsyncIterator[AlertPod]:
        """A pod that takes runs of a graph that no other has, and executes none. It is gone
        afterwards."""
        folder = self.folder / "elsewhere"
        folder.mkdir(exist_ok=True)
        pod = AlertPod(
            "elsewhere",
            Path(tempfile.mkdtemp(dir=folder)),
            self.proxies[0],
            HEADRACE_CONFIG=str(ELSEWHERE),
            HEADRACE_WORKER__ENABLED="false",
            HEADRACE_PROCESSES="1",
        )
        try:
            yield await started(pod, processes=1)
        finally:
            await asyncio.to_thread(pod.close)

    async def counted(self, counter: str) -> float:
        """The sum over pods and labels; 0 before the first time."""
        (sample,) = await asyncio.to_thread(self.prometheus.query, f"sum({counter}) or vector(0)")
        return float(sample["value"][1])

    async def scraped(self, series: str) -> None:
        """Wait until Prometheus has it from each pod: a counter that begins with 1 has no
        increase."""

        async def each() -> bool:
            found = await asyncio.to_thread(self.prometheus.query, series)
            return len({one["metric"]["instance"] for one in found}) == len(self.pods)

        await eventually(each, seconds=30)

    async def execute(self, *statements: str) -> None:
        """Each in a transaction of its own."""
        async with await psycopg.AsyncConnection.connect(
            self.postgres.url, autocommit=True
        ) as connection:
            for statement in statements:
                await connection.execute(statement.encode())


def metrics_directory_limit(folder: Path) -> float:
    """Free MiB below which the directory of metrics counts as full."""
    return round((disk_usage(folder).free - _MARGIN_BYTES) / _MEBIBYTE, 1)


@asynccontextmanager
async def site(
    *, rows: int, table_rows: int, callers: int, locust_users: int
) -> AsyncIterator[Site]:
    """
    :param rows: runs that the fault of tables makes
    :param table_rows: from how many rows on a table is large
    :param locust_users: people of Locust at each pod; 0: none
    """
    async with AsyncExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(
            prefix="headrace-alerts-", ignore_cleanup_errors=True
        )
        folder = Path(stack.enter_context(temporary))
        # Postgres gives up root, and has to get in.
        await asyncio.to_thread(folder.chmod, 0o755)
        (folder / "postgres").mkdir(mode=0o755)
        postgres = Server(folder / "postgres")
        stack.push_async_callback(asyncio.to_thread, postgres.destroy)
        await asyncio.to_thread(postgres.start)
        await asyncio.to_thread(postgres.migrate)
        pods, proxies = await _pods(stack, folder, postgres)
        thresholds = THRESHOLDS | {
            "tableRows": table_rows,
            "metricsDirectoryFreeMiB": metrics_directory_limit(folder),
        }
        prometheus = Prometheus(
            folder / "prometheus", [pod.target for pod in pods], shortened(FACTOR, **thresholds)
        )
        stack.push_async_callback(asyncio.to_thread, prometheus.stop)
        await asyncio.to_thread(prometheus.start)
        told = Callers([pod.url for pod in pods])
        stack.push_async_callback(told.stop)
        told.start(callers)
        ready = Site(folder, postgres, pods, proxies, told, prometheus, rows)
        for pod in pods if locust_users else []:
            locust = Locust(pod.url, folder, users=locust_users)
            stack.callback(locust.stop)
            locust.start()
            ready.locusts.append(locust)
        yield ready


async def _pods(
    stack: AsyncExitStack, folder: Path, postgres: Server
) -> tuple[list[AlertPod], list[Proxy]]:
    pods, proxies = [], []
    for name in ("pod0", "pod1"):
        proxy = Proxy(postgres.server_url)
        await proxy.start()
        stack.push_async_callback(proxy.stop)
        pod = AlertPod(name, folder / name, proxy)
        stack.push_async_callback(asyncio.to_thread, pod.close)
        pods.append(pod)
        proxies.append(proxy)
    await asyncio.gather(*(started(pod) for pod in pods))
    return pods, proxies
