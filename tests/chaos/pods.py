"""Pods of ``headrace serve`` over one database, each with a proxy of its own on the way to it."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx

from tests.support.live import LiveServer
from tests.support.processes import wait_until
from tests.support.proxy import Proxy

GRAPH = Path(__file__).parent / "graph" / "langgraph.json"

#: Short, so that a minute holds many leases. The ratios are those of the defaults.
LEASE_SECONDS = 3.0
QUICK = {
    "HEADRACE_WORKER__LEASE_SECONDS": str(LEASE_SECONDS),
    "HEADRACE_WORKER__HEARTBEAT_SECONDS": "0.75",
    "HEADRACE_WORKER__SWEEP_SECONDS": "0.75",
    "HEADRACE_SERVER__HEARTBEAT_SECONDS": "1",
    "HEADRACE_SERVER__GRACE_SECONDS": "1",
    "HEADRACE_DATABASE__POOL_MAX": "5",
    "HEADRACE_OBSERVABILITY__LOG_FORMAT": "json",
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

    def start(self) -> None:
        command = [sys.executable, "-m", "gunicorn", *self._arguments()]
        with self.log_file.open("ab") as log:
            self.master = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, cwd=Path.cwd()
            )

    def children(self) -> list[int]:
        """Its server processes, whether or not they answer."""
        assert self.master is not None
        pid = self.master.pid
        with suppress(OSError):
            return [
                int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            ]
        return []

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

    def leaked(self) -> dict[str, int]:
        """Connections lost by each process's pool."""
        with suppress(httpx.HTTPError, KeyError):
            return {
                f"{self.name}/{one['pid']}": one["pool"]["leaked"]
                for one in self.report()["processes"]
            }
        return {f"{self.name}: no answer": 1}

    def close(self) -> None:
        for pid in self.children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        super().close()
