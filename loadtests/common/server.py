"""What the server says of itself: /health and /metrics before and after, and the difference."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

_SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

#: A sample's name and labels.
Series = tuple[str, frozenset[tuple[str, str]]]


class NotTold(Exception):
    """The server did not answer with its figures."""


@dataclass(frozen=True)
class Snapshot:
    """One pod at one moment; behind a load balancer, the pod that happened to answer."""

    health: dict[str, Any]
    samples: dict[Series, float]


def api_key_header(environ: Mapping[str, str]) -> dict[str, str]:
    """The key of HEADRACE_API_KEY as LangGraph's clients send it; nothing without one."""
    key = environ.get("HEADRACE_API_KEY")
    return {"x-api-key": key} if key else {}


def snapshot(url: str, headers: Mapping[str, str]) -> Snapshot:
    """:raises NotTold: when /health or /metrics cannot be had."""
    try:
        health = json.loads(_get(url, "/health", headers))
        return Snapshot(health, samples_of(_get(url, "/metrics", headers)))
    except (OSError, HTTPException, ValueError) as error:
        raise NotTold(str(error)) from error


def missing_graphs(url: str, headers: Mapping[str, str], wanted: Sequence[str]) -> list[str]:
    """The graphs that the server does not serve; none where it does not tell."""
    body = json.dumps({"limit": 1000}).encode()
    try:
        text = _ask("POST", url, "/assistants/search", headers, body)
        served = {one["graph_id"] for one in json.loads(text)}
    except (NotTold, OSError, HTTPException, ValueError, TypeError, KeyError):
        return []
    return [graph for graph in wanted if graph not in served]


def samples_of(text: str) -> dict[Series, float]:
    """The samples of a page in the Prometheus text format."""
    return {
        (sample["name"], frozenset(_LABEL.findall(sample["labels"] or ""))): float(sample["value"])
        for sample in map(_SAMPLE.match, text.splitlines())
        if sample
    }


class Difference:
    """What the counters and histograms of a server gained between two snapshots."""

    def __init__(self, before: Snapshot, after: Snapshot) -> None:
        self._gained = {
            series: gain(before.samples.get(series, 0.0), value)
            for series, value in after.samples.items()
        }

    def total(self, name: str) -> float:
        return sum(value for (found, _), value in self._gained.items() if found == name)

    def by(self, name: str, label: str) -> dict[str, int]:
        """A counter's gain by the values of one label, without those that gained nothing."""
        sums: dict[str, float] = defaultdict(float)
        for (found, labels), value in self._gained.items():
            if found == name:
                sums[dict(labels).get(label, "")] += value
        return {key: round(value) for key, value in sorted(sums.items()) if value}

    def latency(self, name: str, **wanted: str) -> dict[str, float]:
        """Count, mean, p50, p95 of a histogram of seconds, in milliseconds."""
        parts: dict[str, float] = defaultdict(float)
        buckets: dict[float, float] = defaultdict(float)
        for (found, labels), value in self._gained.items():
            if not found.startswith(f"{name}_") or not wanted.items() <= set(labels):
                continue
            parts[found.removeprefix(f"{name}_")] += value
            if found == f"{name}_bucket":
                buckets[float(dict(labels)["le"])] += value
        count = parts["count"]
        return {
            "count": round(count),
            "mean_ms": round(parts["sum"] / count * 1000, 2) if count else 0.0,
            "p50_ms": round(quantile(buckets, 0.50) * 1000, 2),
            "p95_ms": round(quantile(buckets, 0.95) * 1000, 2),
        }

    def figures(self) -> dict[str, Any]:
        """What the report tells of the server."""
        operations = self.by("headrace_checkpoint_seconds_count", "operation")
        return {
            "responses_by_status": self.by("headrace_http_requests_total", "status"),
            "runs_by_status": self.by("headrace_runs_total", "status"),
            "run": self.latency("headrace_run_seconds"),
            "pool_wait": self.latency("headrace_pool_checkout_seconds"),
            "pool_timeouts": round(self.total("headrace_pool_timeouts_total")),
            "checkpoint": self.latency("headrace_checkpoint_seconds"),
            "checkpoint_by_operation": {
                name: self.latency("headrace_checkpoint_seconds", operation=name)
                for name in operations
            },
            "store": self.latency("headrace_store_seconds"),
            "background_faults": round(self.total("headrace_background_faults_total")),
        }


def gain(before: float, after: float) -> float:
    """A counter that fell has begun anew, as Prometheus sees it."""
    return after - before if after >= before else after


def quantile(buckets: Mapping[float, float], rank: float) -> float:
    """As Prometheus reckons it: cumulative buckets, evenly filled. 0 when they are empty."""
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return 0.0
    wanted = rank * buckets[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted and buckets[bound] > below:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (wanted - below) / (buckets[bound] - below)
        lower, below = bound, buckets[bound]
    return lower


def _get(url: str, path: str, headers: Mapping[str, str]) -> str:
    return _ask("GET", url, path, headers)


def _ask(
    method: str, url: str, path: str, headers: Mapping[str, str], body: bytes | None = None
) -> str:
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=10)
    given = {**headers, **({} if body is None else {"Content-Type": "application/json"})}
    try:
        connection.request(method, parts.path.rstrip("/") + path, body, given)
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    # An unready server's /health is 503 and tells why.
    if response.status not in (200, 503):
        raise NotTold(f"{path} answered {response.status}")
    return text
