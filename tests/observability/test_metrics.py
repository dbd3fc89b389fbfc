"""The metrics of one process, and of several that write into one directory."""

import gc
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import structlog

from headrace.observability.metrics import Metrics
from headrace.observability.slots import StatusBoard, slots_directory
from headrace.queue.rows import Began, CancelReason, Cause, Proof
from headrace.server.hooks import child_exit
from tests.support.exposition import Exposition
from tests.support.measured import (
    FACTS,
    FIGURES,
    POOL,
    TABLE,
    board_with,
    observe_one_of_each,
)
from tests.support.measuring_process import MeasuringProcess, two_processes

#: What one of everything counts: the sample, its labels.
COUNTED = [
    (
        "headrace_http_requests_total",
        {"method": "GET", "route": "/threads/{thread_id}", "status": "200", "code": ""},
    ),
    ("headrace_http_first_byte_seconds_count", {"method": "GET", "route": "/threads/{thread_id}"}),
    ("headrace_streams_cut_total", {"reason": "drain"}),
    ("headrace_access_lines_dropped_total", {}),
    ("headrace_http_request_seconds_count", {"method": "GET", "route": "/threads/{thread_id}"}),
    ("headrace_runs_total", {"graph": "agent", "status": "success"}),
    ("headrace_run_seconds_count", {"graph": "agent"}),
    ("headrace_run_errors_total", {"graph": "agent", "cause": "graph"}),
    ("headrace_run_cancels_total", {"reason": "client"}),
    ("headrace_repeated_rescues_total", {}),
    ("headrace_run_attempts_total", {"began": "in_place"}),
    ("headrace_run_queue_seconds_count", {"graph": "agent"}),
    ("headrace_run_first_event_seconds_count", {"graph": "agent"}),
    ("headrace_node_seconds_count", {"graph": "agent", "node": "reply"}),
    ("headrace_repeated_nodes_total", {"graph": "agent"}),
    ("headrace_slow_nodes_total", {"graph": "agent"}),
    ("headrace_checkpoint_seconds_count", {"operation": "put"}),
    ("headrace_checkpoint_commit_seconds_count", {"operation": "put"}),
    ("headrace_slow_checkpoints_total", {}),
    ("headrace_store_seconds_count", {"operation": "batch"}),
    ("headrace_pool_timeouts_total", {}),
    ("headrace_background_faults_total", {"task": "a-task"}),
]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(board_with())


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[tuple[MeasuringProcess, MeasuringProcess]]:
    with two_processes(tmp_path) as processes:
        yield processes


def exposed(metrics: Metrics) -> Exposition:
    return Exposition(metrics.render().decode())


def test_what_is_observed_is_exposed(metrics: Metrics) -> None:
    observe_one_of_each(metrics)
    found = exposed(metrics)
    for name, labels in COUNTED:
        assert found.value(name, **labels) == 1, name
    assert found.value("headrace_http_request_seconds_sum") == pytest.approx(0.02)
    assert found.value("headrace_http_first_byte_seconds_sum") == pytest.approx(0.01)
    assert found.value("headrace_http_response_bytes_total", route="/threads/{thread_id}") == 250
    assert found.value("headrace_run_seconds_sum") == pytest.approx(0.3)
    assert found.value("headrace_checkpoint_seconds_sum") == pytest.approx(0.004)
    assert found.value("headrace_checkpoint_commit_seconds_sum") == pytest.approx(1.6)
    assert found.value("headrace_checkpoint_bytes_total", operation="put") == 500
    assert found.value("headrace_database_statements_total") == 14
    assert found.value("headrace_database_transactions_total") == 2
    assert found.value("headrace_store_seconds_sum") == pytest.approx(0.006)
    assert found.value("headrace_pool_checkout_seconds_count") == 2
    assert found.value("headrace_pool_checkout_seconds_sum") == pytest.approx(5.002)


def test_a_run_that_the_sweep_ended_has_no_seconds(metrics: Metrics) -> None:
    metrics.runs.count_run("agent", "error")
    found = exposed(metrics)
    assert found.value("headrace_runs_total", graph="agent", status="error") == 1
    assert found.count("headrace_run_seconds_count") == 0


def test_counters_with_known_words_begin_at_0(metrics: Metrics) -> None:
    metrics.runs.know_graph("agent")
    found = exposed(metrics)
    for name, label, words in (
        ("headrace_rescues_total", "status", {"pending", "error", "interrupted"}),
        ("headrace_rescue_proofs_total", "proof", {*get_args(Proof)}),
        ("headrace_run_cancels_total", "reason", {*get_args(CancelReason)}),
        ("headrace_run_attempts_total", "began", {*get_args(Began)}),
        ("headrace_drained_runs_total", "outcome", {"finished", "at_boundary", "cut"}),
        ("headrace_run_errors_total", "cause", {*get_args(Cause)}),
        ("headrace_runs_total", "status", {"success", "error", "timeout", "interrupted"}),
    ):
        assert found.label_values(name, label) == words
        assert found.value(name) == 0


def test_live_gauges_are_those_of_the_board(metrics: Metrics) -> None:
    found = exposed(metrics)
    for name, value in asdict(POOL).items():
        for suffix in ("", "_min", "_max"):
            assert found.value(f"headrace_pool_{name}{suffix}") == value
    assert found.value("headrace_runs_running") == 6
    assert found.value("headrace_oldest_running_seconds") == 12.5
    assert found.value("headrace_deaf_runs") == 1
    assert found.value("headrace_worker_threads_busy") == 5
    assert found.value("headrace_worker_threads_most_max") == 9
    assert found.value("headrace_loop_lag_max_seconds") == 0.25
    assert found.value("headrace_resident_memory_bytes") == 7000
    assert found.value("headrace_open_fds") == 8
    assert found.value("headrace_lease_left_min_seconds") == 8.5
    assert found.value("headrace_gate_places", gate="lists", state="held") == 3
    assert found.value("headrace_gate_places_max", gate="lists", state="waiting") == 5
    assert found.value("headrace_processes", state="serving") == 1
    assert found.value("headrace_requests_in_flight_max") == 7
    assert found.value("headrace_streams_open") == 4


def test_the_facts_of_the_pod_are_those_that_were_told_last(metrics: Metrics) -> None:
    assert exposed(metrics).count("headrace_ready") == 0
    metrics.note_facts(FACTS)
    metrics.note_facts(replace(FACTS, ready=False, schema_fit=False))
    found = exposed(metrics)
    assert found.value("headrace_ready") == 0
    assert found.value("headrace_database_reachable") == 1
    assert found.value("headrace_schema_fit") == 0
    assert found.value("headrace_build_info", **FACTS.build) == 1


def test_figures_of_the_database_are_those_of_the_process_that_measures(metrics: Metrics) -> None:
    found = exposed(metrics)
    for name, value in asdict(TABLE).items():
        if name in ("name", "since_vacuum_seconds", "vacuumed"):
            continue
        counts = name in ("sequential_scans", "sequential_rows", "updates", "hot_updates")
        metric = f"headrace_table_{name}{'_total' if counts else ''}"
        assert found.value(metric, table="checkpoints") == value
    assert found.value("headrace_table_since_vacuum_seconds", table="checkpoints") == 60.5
    assert found.value("headrace_oldest_transaction_seconds") == 2.5
    assert found.value("headrace_largest_thread_bytes") == 4096
    assert found.value("headrace_credential_expires_seconds", credential="password") == 3600


def test_processes_without_a_lease_are_not_in_the_figures_of_leases() -> None:
    without = FIGURES.model_copy(update={"lease_left_seconds": None, "database": None})
    found = exposed(Metrics(board_with(without)))
    assert found.count("headrace_lease_left_min_seconds") == 0
    assert found.count("headrace_table_rows") == 0


def test_the_directory_of_the_files_is_measured(pod, tmp_path: Path) -> None:
    found = pod[0].tell("observe 1")
    taken = sum(file.stat().st_blocks * 512 for file in (tmp_path / "metrics").iterdir())
    assert found.value("headrace_metrics_directory_bytes") == pytest.approx(taken, rel=0.5)
    assert taken > 0
    free = shutil.disk_usage(tmp_path).free
    assert found.value("headrace_metrics_directory_free_bytes") == pytest.approx(free, rel=0.2)


def test_without_a_directory_there_are_no_figures_of_it(metrics: Metrics) -> None:
    assert exposed(metrics).count("headrace_metrics_directory_bytes") == 0


def test_outcomes_of_flushes_begin_at_zero(metrics: Metrics) -> None:
    found = exposed(metrics)
    for outcome in ("committed", "retried", "rejected"):
        assert found.value("headrace_flushes_total", outcome=outcome) == 0


def test_a_collection_counts_once(metrics: Metrics) -> None:
    metrics.process.count_collections()
    before = exposed(metrics).value("headrace_gc_collections_total", generation="2")
    gc.collect()
    metrics.process.count_collections()
    metrics.process.count_collections()
    assert exposed(metrics).value("headrace_gc_collections_total", generation="2") == before + 1


def test_a_board_without_figures_can_be_scraped() -> None:
    found = exposed(Metrics(StatusBoard(None, stale_seconds=5.0)))
    assert found.value("headrace_processes", state="starting") == 1
    assert found.count("headrace_pool_size") == 0


def test_labels_take_a_bounded_number_of_values(metrics: Metrics) -> None:
    for number in range(1000):
        metrics.http.observe_request("GET", f"/{number}", 200, 0.001)
        metrics.http.observe_request("GET", "/0", number, 0.001, code=f"code_{number}")
        metrics.http.observe_request(f"M{number}", "/0", 200, 0.001)
        metrics.runs.observe_run(f"graph-{number}", "success", 0.001)
        metrics.process.record_fault(f"task-{number}")
    found = exposed(metrics)
    for name, label in (
        ("headrace_http_requests_total", "route"),
        ("headrace_runs_total", "graph"),
        ("headrace_background_faults_total", "task"),
    ):
        assert len(found.label_values(name, label)) == 201
        assert found.value(name, **{label: "__other__"}) == 800
    for label in ("status", "code"):
        assert len(found.label_values("headrace_http_requests_total", label)) == 201
    assert found.label_values("headrace_http_requests_total", "method") == {"GET", "__other__"}


def test_combinations_of_labels_are_bounded_too(metrics: Metrics) -> None:
    for number in range(10_000):
        route, code = f"/{number % 150}", f"code_{number // 150}"
        metrics.http.observe_request("GET", route, 500, 0.001, code=code)
    found = exposed(metrics)
    assert found.value("headrace_http_requests_total") == 10_000
    series = [one for one in found.samples if one[0] == "headrace_http_requests_total"]
    assert len(series) == 4001


def test_operations_are_in_the_latency_windows_too(metrics: Metrics) -> None:
    observe_one_of_each(metrics)
    assert metrics.checkpoints.latency.percentiles().p99_seconds == 0.004
    assert metrics.checkpoints.store_latency.percentiles().p99_seconds == 0.006


def test_a_directory_that_comes_too_late_is_told_and_not_used(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        metrics = Metrics(board_with(), multiprocess_dir=tmp_path)
    observe_one_of_each(metrics)
    assert [line["event"] for line in lines] == ["metrics_of_one_process_only"]
    assert exposed(metrics).value("headrace_runs_total") == 1


def test_counts_of_processes_add_up_whichever_is_asked(pod) -> None:
    one, other = pod
    one.tell("observe 3")
    other.tell("observe 4")
    for found in (one.render(), other.render()):
        for name, labels in COUNTED:
            assert found.value(name, **labels) == 7, name
        assert found.value("headrace_pool_checkout_seconds_count") == 14
        assert found.value("headrace_run_seconds_sum") == pytest.approx(7 * 0.3)
        assert not any("pid" in labels for _, labels, _ in found.samples)


def test_one_starved_pool_shows_beside_the_sum(pod) -> None:
    one, other = pod
    one.tell("available 0")
    other.tell("available 9")
    found = one.render()
    assert found.value("headrace_pool_available") == 9
    assert found.value("headrace_pool_available_min") == 0
    assert found.value("headrace_pool_available_max") == 9
    assert found.value("headrace_pool_size") == 2 * POOL.size


def test_memory_files_and_collections_are_those_of_each_process(pod) -> None:
    found = pod[0].render()
    for name in ("headrace_resident_memory_bytes", "headrace_open_fds"):
        stem, unit = name.removesuffix("_bytes"), "_bytes" if name.endswith("_bytes") else ""
        least, most = found.value(f"{stem}_min{unit}"), found.value(f"{stem}_max{unit}")
        assert 0 < least <= most
        assert found.value(name) == least + most
    assert found.value("headrace_resident_memory_min_bytes") > 10_000_000
    assert found.value("headrace_open_fds_min") >= 3
    assert found.value("headrace_processes", state="serving") == 2


def test_a_dead_processs_gauges_vanish_and_its_counts_stay(
    pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    living, dead = pod
    dead.tell("available 0")
    dead.tell("observe 4")
    dead.kill()
    monkeypatch.setenv("HEADRACE_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "metrics"))
    child_exit(SimpleNamespace(), SimpleNamespace(pid=dead.pid))
    found = living.render()
    assert found.value("headrace_processes", state="serving") == 1
    assert found.value("headrace_pool_available_min") == POOL.available
    assert found.value("headrace_pool_size") == POOL.size
    assert found.value("headrace_runs_total") == 4
    assert found.value("headrace_gc_collections_total", generation="2") >= 4
    assert found.value("headrace_checkpoint_bytes_total", operation="put") == 4 * 500
    assert os.listdir(slots_directory(tmp_path)) == [f"{living.pid}.json"]
