"""The summary at the end: a table; JSON and Locust's report with charts in loadtests/results/."""

import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import locust
from locust.env import Environment
from locust.html import get_html_report
from locust.stats import StatsEntry

from loadtests.common.api import CONVERSATION
from loadtests.common.events import StreamFailed
from loadtests.common.profile import Profile
from loadtests.common.server import Difference, NotTold, Snapshot, api_key_header, snapshot
from loadtests.common.thresholds import Overall, broken_thresholds, percentile_of

RESULTS = Path(__file__).parents[1] / "results"
_FAILURES_SHOWN = 10
_COLUMNS = {
    "requests": "requests",
    "failures": "failures",
    "per_second": "per s",
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "p99_ms": "p99 ms",
}


class Report:
    """Takes the server's figures before and after, and writes what came of it."""

    def __init__(self, environment: Environment, profile: Profile) -> None:
        self._environment = environment
        self._profile = profile
        self._started_at = datetime.now(UTC)
        self._before: Snapshot | str = "the test did not start"
        # Its tables would count conversations as requests.
        logging.getLogger("locust.stats_logger").disabled = True
        environment.events.test_start.add_listener(self._start)
        environment.events.quitting.add_listener(self._end)

    def _start(self, **_: Any) -> None:
        self._started_at = datetime.now(UTC)
        self._before = self._snapshot()

    def _end(self, **_: Any) -> None:
        result = self._result()
        # Locust's own code knows no thresholds, and is 1 for a single failure.
        self._environment.process_exit_code = int(bool(result["thresholds_broken"]))
        folder = Path(os.environ.get("LOAD_RESULTS") or RESULTS)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self._started_at:%Y%m%dT%H%M%SZ}-{self._profile.name}.json"
        path.write_text(json.dumps(result, indent=2) + "\n")
        charts = path.with_suffix(".html")
        charts.write_text(get_html_report(self._environment, show_download_link=False))
        told = [*lines_of(result), f"results: {path}", f"charts: {charts}", ""]
        sys.stdout.write("\n".join(told))
        sys.stdout.flush()

    def _snapshot(self) -> Snapshot | str:
        try:
            return snapshot(self._environment.host or "", api_key_header(os.environ))
        except NotTold as error:
            return f"its figures cannot be had: {error}"

    def _result(self) -> dict[str, Any]:
        stats = self._environment.stats
        entries = [one for _, one in sorted(stats.entries.items())]
        requests = [one for one in entries if one.method != CONVERSATION]
        conversations = [one for one in entries if one.method == CONVERSATION]
        runner = self._environment.runner
        completed = sum(one.num_requests for one in conversations)
        overall = _overall(requests)
        return {
            "profile": asdict(self._profile),
            "url": self._environment.host,
            "started_at": self._started_at.isoformat(timespec="seconds"),
            "locust": locust.__version__,
            "client_cpu_seconds": round(time.process_time(), 1),
            "load_generator_busy": bool(runner and runner.cpu_warning_emitted),
            "entries": [_entry(one) for one in requests],
            "failures": [
                {
                    "type": one.method,
                    "name": one.name,
                    "count": one.occurrences,
                    "error": _said(one.error),
                }
                for one in sorted(stats.errors.values(), key=lambda one: -one.occurrences)
            ],
            "conversations": {
                "completed": completed,
                "by_door": {one.name: one.num_requests for one in conversations},
            },
            "overall": overall._asdict(),
            "thresholds_broken": broken_thresholds(self._profile, overall, completed),
            "server": self._server(),
        }

    def _server(self) -> dict[str, Any]:
        after = self._snapshot()
        if isinstance(self._before, str) or isinstance(after, str):
            return {"silent": self._before if isinstance(self._before, str) else after}
        return {
            **Difference(self._before, after).figures(),
            "health_before": self._before.health,
            "health_after": after.health,
        }


def _overall(entries: Sequence[StatsEntry]) -> Overall:
    """All requests together, with the first events of streams."""
    times: Counter[int] = Counter()
    for one in entries:
        times.update(one.response_times)
    return Overall(
        requests=sum(one.num_requests for one in entries),
        failures=sum(one.num_failures for one in entries),
        p50_ms=percentile_of(times, 0.50),
        p95_ms=percentile_of(times, 0.95),
        p99_ms=percentile_of(times, 0.99),
    )


def _said(error: object) -> str:
    """Ours are sentences; of others the class is half of what they say."""
    return str(error) if isinstance(error, (StreamFailed, str)) else repr(error)


def _entry(entry: StatsEntry) -> dict[str, Any]:
    return {
        "type": entry.method,
        "name": entry.name,
        "requests": entry.num_requests,
        "failures": entry.num_failures,
        "per_second": round(entry.total_rps, 2),
        "p50_ms": entry.get_response_time_percentile(0.50),
        "p95_ms": entry.get_response_time_percentile(0.95),
        "p99_ms": entry.get_response_time_percentile(0.99),
    }


def lines_of(result: dict[str, Any]) -> Iterable[str]:
    """The summary as it is printed."""
    profile = result["profile"]
    yield (
        f"profile {profile['name']}: {profile['users']} users, {profile['seconds']:g} s,"
        f" {result['url']}"
    )
    yield from ("", f"{'':34}" + "".join(f"{heading:>9}" for heading in _COLUMNS.values()))
    for one in result["entries"]:
        figures = "".join(f"{round(one[key], 1):>9g}" for key in _COLUMNS)
        yield f"{one['type'] + ' ' + one['name']:34}{figures}"
    yield ""
    yield f"conversations completed: {result['conversations']['completed']}"
    yield from _server_lines(result["server"])
    if result["load_generator_busy"]:
        yield "the load generator was short of processor time: the figures are partly its own"
    yield from (f"threshold broken: {one}" for one in result["thresholds_broken"])
    for one in result["failures"][:_FAILURES_SHOWN]:
        yield f"failed {one['count']} x {one['type']} {one['name']}: {one['error']}"
    if len(result["failures"]) > _FAILURES_SHOWN:
        yield f"and {len(result['failures']) - _FAILURES_SHOWN} other failures, in the results"


def _server_lines(server: dict[str, Any]) -> Iterable[str]:
    if "silent" in server:
        yield f"server: {server['silent']}"
        return
    for label, name in [
        ("run", "run"),
        ("checkpoint", "checkpoint"),
        ("store", "store"),
        ("wait for a connection", "pool_wait"),
    ]:
        one = server[name]
        yield (
            f"server, {label}: {one['count']} times,"
            f" p50 {one['p50_ms']:g} ms, p95 {one['p95_ms']:g} ms"
        )
    yield (
        f"server, refused for want of a connection: {server['pool_timeouts']};"
        f" runs by status: {server['runs_by_status']}"
    )
