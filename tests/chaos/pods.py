"""Pods of ``headrace serve`` over one database, each with a proxy of its own on the way to it."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import httpx

from tests.support.live import LiveServer
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

GRAPH = Path(__file__).parent / "graph" / "langgraph.json"

QUICK = {
    # A run that meets one fault after another is no run that takes processes with it.
    "HEADRACE_WORKER__MAX_FAILURES": "100",
    # What a lost process had goes on soon, though every process is busy all the time.
    "HEADRACE_WORKER__APART_SECONDS": "0.5",
    "HEADRACE_WORKER__APART_PATIENCE_SECONDS": "0.5",
    # Crons may have a slot each second; what a lost process had taken is taken again soon.
    "HEADRACE_CRONS__MIN_INTERVAL_SECONDS": "1",
    "HEADRACE_CRONS__RETRY_SECONDS": "2",
    "HEADRACE_SERVER__PING_SECONDS": "1",
    "HEADRACE_SERVER__GRACE_SECONDS": "1",
    "HEADRACE_DATABASE__POOL_MAX": "5",
    "HEADRACE_OBSERVABILITY__LOG_FORMAT": "json",
    "HEADRACE_WEBHOOKS__REQUIRE_HTTPS": "false",
    "HEADRACE_WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.0/8,::1/128",
    # A call that a fault has cut is made again soon.
    "HEADRACE_WEBHOOKS__TIMEOUT_SECONDS": "2",
    "HEADRACE_WEBHOOKS__POLL_SECONDS": "0.5",
    "HEADRACE_WEBHOOKS__RETRY_SECONDS": "0.5",
}


def lease_settings(seconds: float) -> dict[str, str]:
    """A lease of any length: how often it is renewed is a quarter of it, as by default."""
    quarter = str(seconds / 4)
    return {
        "HEADRACE_WORKER__LEASE_SECONDS": str(seconds),
        "HEADRACE_WORKER__HEARTBEAT_SECONDS": quarter,
        "HEADRACE_WORKER__SWEEP_SECONDS": str(min(1.0, seconds / 4)),
    }


class Pod(LiveServer):
    """One gunicorn master and its processes; the same place and port over restarts."""

    application = "tests.chaos.sabotage:create_app()"

    def __init__(self, name: str, folder: Path, proxy: Proxy, **environment: str) -> None:
        super().__init__(
            folder,
            proxy.url,
            **{**QUICK, "HEADRACE_CONFIG": str(GRAPH), "CHAOS_POD": name, **environment},
        )
        self.name = name
        self.proxy = proxy

    @staticmethod
    def login(database_url: str) -> str:
        # The proxy answers on the loop that starts pods, so nobody may ask it first.
        return database_url

    def start(self) -> None:
        # The log grows over restarts.
        self._start_master()

    def children(self) -> list[int]:
        """Its server processes, whether or not they answer."""
        assert self.master is not None
        pid = self.master.pid
        with suppress(OSError):
            return [
                int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            ]
        return []

    def wait_ready(self, processes: int = 2) -> None:
        # Long, for a machine that is busy with pods that start.
        wait_until(lambda: len(self.serving()) >= processes, seconds=150)
        wait_until(lambda: self.status("/readyz") == 200, seconds=90)

    def redeploy(self) -> int:
        """TERM, the end, and a new start; what the exit status was is the caller's to judge.

        The end is waited for as long as a pod has that was told to take one second of grace.
        """
        assert self.master is not None
        self.master.terminate()
        try:
            status = self.master.wait(40)
        except subprocess.TimeoutExpired:
            for pid in [*self.children(), self.master.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            status = self.master.wait()
        self.start()
        # Long, for a machine that is busy with pods that start.
        wait_until(lambda: self.status("/readyz") == 200, seconds=90)
        return status

    def memory(self) -> dict[str, int]:
        """Resident bytes by process."""
        found = {}
        for pid in self.children():
            with suppress(OSError):
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                found[f"{self.name}/{pid}"] = pages * os.sysconf("SC_PAGESIZE")
        return found

    def leaked(self, processes: int) -> dict[str, int]:
        """Connections lost by each process's pool; a process that says nothing counts as one."""
        told: dict[str, int] = {}
        with suppress(httpx.HTTPError, KeyError):
            told = {
                f"{self.name}/{one['pid']}": one["pool"]["leaked"]
                for one in self.report()["processes"]
                if one["state"] == "serving"
            }
        silent = range(processes - len(told))
        return told | {f"{self.name}: without an answer {number}": 1 for number in silent}

    def close(self) -> None:
        for pid in self.children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        super().close()
