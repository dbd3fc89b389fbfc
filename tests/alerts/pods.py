"""Pods of ``headrace serve`` that Prometheus scrapes, and the graphs that do harm."""

import asyncio
import os
from pathlib import Path

from tests.chaos.pods import Pod, lease_settings
from tests.support.proxy import Proxy

GRAPHS = Path(__file__).parent / "graph" / "langgraph.json"
ELSEWHERE = GRAPHS.with_name("elsewhere.json")
LEASE_SECONDS = 4.0

#: Short, so that a fault shows within seconds; and little, so that few runs fill a pod.
_QUICK = {
    "HEADRACE_WORKER__MAX_FAILURES": "3",
    "HEADRACE_WORKER__MAX_CONCURRENT_RUNS": "20",
    "HEADRACE_DATABASE__ACQUIRE_TIMEOUT_SECONDS": "2",
    # A minute of the rules is two seconds here.
    "HEADRACE_DATABASE__AWAY_TIMEOUT_SECONDS": "2",
    "HEADRACE_CHECKPOINTER__RETRY_SECONDS": "6",
    "HEADRACE_CHECKPOINTER__FLUSH_TIMEOUT_SECONDS": "4",
    "HEADRACE_EVENTS__SWEEP_SECONDS": "1",
    "HEADRACE_EVENTS__STALL_SECONDS": "2",
    "HEADRACE_EVENTS__BUFFER_EVENTS": "16",
    "HEADRACE_EVENTS__BUFFER_BYTES": "65536",
    "HEADRACE_METRICS__CACHE_SECONDS": "0.5",
    "HEADRACE_METRICS__TABLE_SECONDS": "1",
    "HEADRACE_REQUESTS__BODIES_BYTES": "140000",
    "HEADRACE_REQUESTS__BODIES_WAIT_SECONDS": "0.5",
    "HEADRACE_ANSWERS__MAX_BYTES": "8192",
    "HEADRACE_RETENTION__SWEEP_MINUTES": "0.05",
    "HEADRACE_WORKER__SLOW_NODE_SECONDS": "1",
    "HEADRACE_USAGE__RUN_TOKENS": "15",
    # Nobody listens there: spans are counted as failed.
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.02",
    "HEADRACE_DATABASE__PART_WAIT_SECONDS": "1",
    "HEADRACE_SERVER__PROCESS_TIMEOUT_SECONDS": "60",
    "HEADRACE_SERVER__UNREAD_TIMEOUT_SECONDS": "3",
}


class AlertPod(Pod):
    """A pod that answers health and metrics on a port of its own."""

    application = "tests.alerts.quick:create_app()"

    def __init__(self, name: str, folder: Path, proxy: Proxy, **environment: str) -> None:
        quick = {**_QUICK, **lease_settings(LEASE_SECONDS), "HEADRACE_CONFIG": str(GRAPHS)}
        super().__init__(name, folder, proxy, **{**quick, **environment})
        self.open_health_port()
        self.metrics_folder = self.runtime_dir / "metrics"

    @property
    def target(self) -> str:
        return self.health_url.removeprefix("http://")

    def stop(self) -> None:
        """TERM, and the end."""
        assert self.master is not None
        self.master.terminate()
        self.master.wait(40)

    def close(self) -> None:
        if self.master is not None:
            super().close()

    def process(self) -> int:
        """One of its processes that serve."""
        return sorted(self.children())[0]

    def send(self, number: int) -> int:
        """A signal to one of its processes; returns which."""
        pid = self.process()
        os.kill(pid, number)
        return pid


async def started(pod: AlertPod, processes: int = 2) -> AlertPod:
    pod.start()
    await asyncio.to_thread(pod.wait_ready, processes)
    return pod
