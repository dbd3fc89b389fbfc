"""What goes wrong: dealt from a shuffled deck, so that a short run meets every kind.

The seed fixes which faults come, in which order and on whom; not what the machine makes of it.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from random import Random

import psycopg

from tests.chaos.load import Load
from tests.chaos.pods import Pod
from tests.chaos.postgres import Pair

#: How long after a death a client may still notice that its connection is gone.
_FELT_SECONDS = 2.0
#: How long it may take until a pod has replaced connections on which nothing comes back.
_NOTICED_SECONDS = 15.0


class Faults:
    def __init__(
        self,
        random: Random,
        pods: Sequence[Pod],
        pair: Pair,
        load: Load,
        *,
        lease_seconds: float,
    ) -> None:
        self._random = random
        self._pods = pods
        self._pair = pair
        self._load = load
        self._lease_seconds = lease_seconds
        self.injected: Counter[str] = Counter()
        #: Deploys that did not end with status 0, say.
        self.unexpected: list[str] = []
        #: When a standby was parted from its primary, and when that died: seconds since the epoch.
        self.promotions: list[tuple[float, float]] = []
        #: When a process was killed, and until when clients may feel it.
        self.deaths: list[tuple[float, float]] = []
        self._silent_at = float("-inf")
        self.kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill -9 of a process": self._kill_process,
            "SIGSTOP past the lease, SIGCONT": self._pause_process,
            "TERM-deploy of all pods": self._deploy,
            "database connections cut": self._cut,
            "database stalled past the lease": self._stall,
            "database half-open": self._half_open,
            "database slow": self._slow,
            "Postgres restart -m immediate": self._restart_postgres,
            "standby promoted": self._promote,
            "listener killed": self._kill_listener,
            "all backends killed": self._kill_backends,
            "clients killed": self._kill_clients,
        }

    async def inject(self, kinds: Sequence[str], *, seconds: float) -> None:
        """Each kind once, and on until the time is over; the last one is finished."""
        deadline = asyncio.get_running_loop().time() + seconds
        for number, kind in enumerate(self._deal(kinds)):
            if number >= len(kinds) and asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(self._random.uniform(0.2, 1.0))
            self.injected[kind] += 1
            await self.kinds[kind]()

    def _deal(self, kinds: Sequence[str]) -> Iterator[str]:
        while True:
            yield from self._random.sample(list(kinds), len(kinds))

    def _pod(self) -> Pod:
        return self._random.choice(list(self._pods))

    def _process(self) -> int | None:
        children = self._pod().children()
        return self._random.choice(sorted(children)) if children else None

    async def _kill_process(self) -> None:
        if pid := self._process():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.deaths.append((time.time(), time.time() + _FELT_SECONDS))

    async def _pause_process(self) -> None:
        if pid := self._process():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                # Until some of its runs, which go on elsewhere one by one, have written there.
                await asyncio.sleep(self._lease_seconds + self._random.uniform(3.0, 4.0))
                os.kill(pid, signal.SIGCONT)

    async def _deploy(self) -> None:
        for pod in self._pods:
            told_at = time.time()
            silent = told_at - self._silent_at < _NOTICED_SECONDS
            status = await asyncio.to_thread(pod.redeploy)
            if silent:
                # It had to end within a second, and its database did not answer.
                self.deaths.append((told_at, time.time()))
            if status != 0:
                self.unexpected.append(f"{pod.name} ended with status {status} after TERM")

    async def _cut(self) -> None:
        self._pod().proxy.cut()

    async def _stall(self) -> None:
        proxy = self._pod().proxy
        proxy.stall()
        await asyncio.sleep(self._lease_seconds + self._random.uniform(1.5, 2.5))
        proxy.flow()
        self._silent_at = time.time()

    async def _half_open(self) -> None:
        self._pod().proxy.half_open()
        self._silent_at = time.time()

    async def _slow(self) -> None:
        proxy = self._pod().proxy
        proxy.delay_seconds = self._random.uniform(0.02, 0.1)
        await asyncio.sleep(2.0)
        proxy.delay_seconds = 0.0

    async def _restart_postgres(self) -> None:
        await asyncio.to_thread(self._pair.restart, self._random.uniform(0.1, 1.5))

    async def _promote(self) -> None:
        self.promotions.append(await asyncio.to_thread(self._pair.fail_over))
        for pod in self._pods:
            pod.proxy.retarget(self._pair.url)
            pod.proxy.cut()
        await asyncio.to_thread(self._pair.attach_standby)

    async def _kill_listener(self) -> None:
        # The second is how it asks whether its connection lives.
        self._terminate("(query ILIKE 'LISTEN%' OR query = 'SELECT 1')")

    async def _kill_backends(self) -> None:
        self._terminate("backend_type = 'client backend'")

    def _terminate(self, which: str) -> None:
        with psycopg.connect(self._pair.url, autocommit=True) as database:
            database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE pid <> pg_backend_pid() AND application_name = 'headrace' AND {which}"
            )

    async def _kill_clients(self) -> None:
        self._load.kill_clients(0.5)
