"""What a pod of two processes tells about runs that it was sent: /metrics and /health."""

from collections import Counter

import httpx
import pytest

from headrace.db.schema import known_revisions
from headrace.ids import uuid7
from tests.support.exposition import Exposition
from tests.support.live import LiveServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

INPUTS = {
    "agent": {"messages": [{"role": "user", "content": "hi"}]},
    "memo": {"topic": "tea"},
    "boom": {"topic": "x"},
}
STATUS = {"agent": "success", "memo": "success", "boom": "error"}
WAIT = "/threads/{thread_id}/runs/wait"
READ = "/threads/{thread_id}"


class Sent:
    """Requests on connections of their own, and what they add up to."""

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self.runs: Counter[str] = Counter()
        self.routes: Counter[tuple[str, str, str]] = Counter()
        self.threads: list[str] = []

    def run(self, graph: str) -> None:
        thread_id = self.ask("POST", "/threads", "/threads", json={})["thread_id"]
        path = f"/threads/{thread_id}/runs/wait"
        self.ask("POST", WAIT, path, json={"assistant_id": graph, "input": INPUTS[graph]})
        self.runs[graph] += 1
        self.threads.append(thread_id)

    def ask(self, method: str, route: str, path: str, json: object = None) -> dict[str, str]:
        response = httpx.request(method, self._server.url + path, json=json, timeout=30)
        self.routes[method, route, str(response.status_code)] += 1
        answer: dict[str, str] = response.json()
        return answer


def scraped_by_each(server: LiveServer) -> dict[int, Exposition]:
    """What each process answers; a connection stays with one."""
    found: dict[int, Exposition] = {}

    def both_have_answered() -> bool:
        with httpx.Client(base_url=server.url) as client:
            pid = client.get("/livez").json()["pid"]
            found[pid] = Exposition(client.get("/metrics").text)
        return len(found) == 2

    wait_until(both_have_answered, seconds=30)
    return found


def operations(server: LiveServer, kind: str) -> dict[int, int]:
    return {one["pid"]: one[kind]["operations"] for one in server.report()["processes"]}


@pytest.fixture(scope="module")
def sent(module_server: LiveServer) -> Sent:
    """Runs until both processes have had some; what was counted has reached the slots."""
    sent = Sent(module_server)
    while sent.runs.total() < 12 or not all(operations(module_server, "checkpoints").values()):
        for graph in INPUTS:
            sent.run(graph)
        assert sent.runs.total() < 300
    sent.ask("GET", READ, f"/threads/{sent.threads[0]}")
    sent.ask("GET", READ, f"/threads/{uuid7()}")
    sent.ask("GET", "__unmatched__", "/wp-admin/setup.php")

    def told_by_each() -> bool:
        # A run, or a request, is counted after its client has had the last byte; and each process
        # answers for a while with what it has written last.
        return all(
            found.count("headrace_runs_total") == sent.runs.total()
            and found.label_values("headrace_http_requests_total", "route")
            >= {"/metrics", *(route for _, route, _ in sent.routes)}
            for found in scraped_by_each(module_server).values()
        )

    wait_until(told_by_each)
    return sent


def test_runs_are_counted_by_graph_and_status_whichever_process_is_asked(
    module_server: LiveServer, sent: Sent
) -> None:
    for found in scraped_by_each(module_server).values():
        for graph, runs in sent.runs.items():
            status = STATUS[graph]
            assert found.value("headrace_runs_total", graph=graph, status=status) == runs
            assert found.value("headrace_run_seconds_count", graph=graph) == runs
        assert found.value("headrace_runs_total") == sent.runs.total()


def test_requests_are_counted_by_route_template(module_server: LiveServer, sent: Sent) -> None:
    def as_sent() -> bool:
        return all(
            found.count("headrace_http_requests_total", method=method, route=route, status=status)
            == times
            for found in scraped_by_each(module_server).values()
            for (method, route, status), times in sent.routes.items()
        )

    wait_until(as_sent)
    assert sent.routes["GET", READ, "404"] == 1
    for found in scraped_by_each(module_server).values():
        routes = found.label_values("headrace_http_requests_total", "route")
        assert routes >= {"/threads", WAIT, READ, "/metrics", "__unmatched__"}
        assert not any(one in found.text for one in [*sent.threads, "wp-admin"])


def test_checkpoints_and_store_are_timed_by_operation(
    module_server: LiveServer, sent: Sent
) -> None:
    for found in scraped_by_each(module_server).values():
        assert found.label_values("headrace_checkpoint_seconds_count", "operation") >= {
            "get_tuple",
            "put",
        }
        for operation in ("get_tuple", "put"):
            labels = {"operation": operation}
            assert found.value("headrace_checkpoint_seconds_count", **labels) >= sent.runs.total()
            assert found.value("headrace_checkpoint_seconds_sum", **labels) > 0
        assert found.value("headrace_store_seconds_count", operation="batch") >= sent.runs["memo"]


def test_what_runs_cost_the_database_is_shown(module_server: LiveServer, sent: Sent) -> None:
    for found in scraped_by_each(module_server).values():
        runs = sent.runs.total()
        for operation in ("put", "put_writes"):
            labels = {"operation": operation}
            assert found.value("headrace_checkpoint_commit_seconds_count", **labels) >= runs
            assert found.value("headrace_checkpoint_bytes_total", **labels) > runs
        assert found.value("headrace_database_statements_total") >= 2 * runs / 2
        assert found.value("headrace_database_transactions_total") > 0
        assert found.value("headrace_table_bytes", table="checkpoints") > 0
        assert found.value("headrace_metrics_directory_bytes") > 0
        assert found.value("headrace_metrics_directory_free_bytes") > 0


def test_the_pool_shows_size_free_waiting_and_checkout(
    module_server: LiveServer, sent: Sent
) -> None:
    for found in scraped_by_each(module_server).values():
        assert found.value("headrace_pool_size") >= 2 * 2
        assert found.value("headrace_pool_max_size") == 2 * 10
        assert found.value("headrace_pool_available_min") >= 0
        assert found.value("headrace_pool_waiting_max") == 0
        assert found.value("headrace_pool_checkout_seconds_count") > sent.runs.total()
        assert found.value("headrace_pool_timeouts_total") == 0
        assert found.count("headrace_background_faults_total") == 0


def test_the_processes_show_lag_memory_files_and_collections(module_server: LiveServer) -> None:
    for found in scraped_by_each(module_server).values():
        assert found.value("headrace_processes", state="serving") == 2
        assert (
            0
            <= found.value("headrace_loop_lag_min_seconds")
            <= found.value("headrace_loop_lag_max_seconds")
        )
        assert found.value("headrace_resident_memory_min_bytes") > 10_000_000
        assert found.value("headrace_open_fds_min") > 3
        assert found.value("headrace_gc_collections_total", generation="0") > 0


def test_health_has_pool_figures_and_percentiles_of_each_process(
    module_server: LiveServer, sent: Sent
) -> None:
    report = module_server.report()
    assert report["status"] == "ready"
    assert report["schema"] == {"ok": True, "revision": known_revisions()[-1]}
    processes = report["processes"]
    assert sorted(one["pid"] for one in processes) == sorted(module_server.serving())
    assert len(processes) == 2
    for one in processes:
        pool = one["pool"]
        assert 2 <= pool["size"] <= pool["max_size"] == 10
        free_or_held = pool["available"] + pool["in_use"] + pool["checking"]
        assert (free_or_held, pool["leaked"]) == (pool["size"], 0)
        for name in ("checkpoints", "commits"):
            found = one[name]
            assert found["operations"] > 0
            assert 0 < found["p50_seconds"] <= found["p95_seconds"] <= found["p99_seconds"]
        assert 0 < one["lease_left_seconds"] <= 10
    # One of them measures for the pod.
    (measured,) = [one["database"] for one in processes if one["database"] is not None]
    assert {"checkpoints", "runs"} <= {table["name"] for table in measured["tables"]}
