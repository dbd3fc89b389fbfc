"""The figures that LangGraph's server gives as JSON, from headrace's own metrics."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from prometheus_client import Metric


def report(families: Iterable[Metric]) -> dict[str, Any]:
    """Figures of queue and requests. Zero or null stands for a figure that is not measured."""
    samples = [sample for family in families for sample in family.samples]
    plain = {sample.name: sample.value for sample in samples if not sample.labels}
    requests: Counter[tuple[str, str, str]] = Counter()
    for sample in samples:
        if sample.name == "headrace_http_requests_total":
            labels = sample.labels
            requests[labels["method"], labels["route"], labels["status"]] += int(sample.value)
    return {
        "queue": {
            "n_pending": int(plain.get("headrace_runs_pending", 0)),
            "pending_runs_wait_time_max_secs": None,
            "pending_runs_wait_time_med_secs": None,
            "pending_unblocked_runs_wait_time_max_secs": plain.get("headrace_oldest_ready_seconds")
            or None,
            "n_running": int(plain.get("headrace_runs_running", 0)),
        },
        "api": {
            "http_requests_total": [
                {"method": method, "path": route, "status": int(status), "count": count}
                for (method, route, status), count in requests.items()
                if status.isdigit()
            ]
        },
    }
