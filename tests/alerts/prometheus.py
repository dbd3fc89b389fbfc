"""A real Prometheus that scrapes each second, and what it says."""

import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.processes import free_port
from tests.support.tools import require_tool
from tests.support.waiting import wait_until

Sample = dict[str, Any]


class Prometheus:
    """:param targets: host and port of each instance"""

    def __init__(self, folder: Path, targets: Sequence[str], rules: str) -> None:
        self._tool = require_tool("prometheus", remedy="make ci-tools")
        self._folder = folder
        folder.mkdir()
        self.url = f"http://127.0.0.1:{free_port()}"
        (folder / "rules.yaml").write_text(rules)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(_configuration(targets)))
        self._client = httpx.Client(base_url=self.url, timeout=10.0)
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = time.time()

    def start(self) -> None:
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self._tool,
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(self._ready, seconds=30)

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()
        with suppress(httpx.HTTPError):
            return self._client.get("/-/ready").status_code == 200
        return False

    def alerts(self) -> list[Sample]:
        """Those that are pending or fire."""
        found: list[Sample] = self._ask("/api/v1/alerts")["alerts"]
        return found

    def firing(self) -> dict[str, Sample]:
        """One of each alert that fires, by name."""
        return {
            one["labels"]["alertname"]: one for one in self.alerts() if one["state"] == "firing"
        }

    def unhealthy_rules(self) -> dict[str, str]:
        """Rules whose last evaluation failed, and why."""
        return {
            rule["name"]: rule["lastError"]
            for group in self._ask("/api/v1/rules")["groups"]
            for rule in group["rules"]
            if rule["health"] == "err"
        }

    def query(self, promql: str) -> list[Sample]:
        found: list[Sample] = self._ask("/api/v1/query", query=promql)["result"]
        return found

    def whole_time(self, promql: str, *, step_seconds: float = 5.0) -> list[Sample]:
        """Series that the expression had at any time since the start."""
        found: list[Sample] = self._ask(
            "/api/v1/query_range",
            query=promql,
            start=self.started_at,
            end=time.time(),
            step=step_seconds,
        )["result"]
        return found

    def _ask(self, path: str, **parameters: Any) -> Any:
        answer = self._client.get(path, params=parameters).json()
        if answer["status"] != "success":
            raise ValueError(answer["error"])
        return answer["data"]

    def stop(self) -> None:
        self._client.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _configuration(targets: Sequence[str]) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": "headrace", "static_configs": [{"targets": list(targets)}]},
        ],
    }
