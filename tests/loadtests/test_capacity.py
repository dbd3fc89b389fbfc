"""The calculator of capacity: needs grow with demand, and constants come from a file."""

import json
from dataclasses import asdict

from loadtests.capacity import Constants, Demand, main, most_runs_per_second, need
from tests.support.load import measuring

CONSTANTS = Constants(python_ms=3.0, postgres_ms=0.6, wal_bytes=8000, stored_bytes=10_000)


def test_one_demand_by_hand():
    found = need(Demand(runs_per_second=1000, seconds_per_run=2), CONSTANTS)
    assert found.runs_in_flight == 2000
    assert (found.server_cores, found.postgres_cores) == (5.0, 1.0)
    # 2,000 runs at once need four processes, 5 cores of Python need five.
    assert (found.processes, found.pods) == (5, 3)
    assert found.connections == 5 * (found.pool_per_process + 2)
    assert found.wal_mb_per_second == 8.0
    assert found.stored_gb == 1000 * 10_000 * 86400 * 7 / 1e9


def test_long_runs_need_processes_though_they_cost_no_processor_time():
    found = need(Demand(runs_per_second=100, seconds_per_run=60), CONSTANTS)
    assert found.server_cores < 1
    assert found.processes == 10


def test_tokens_cost_python():
    silent = need(Demand(1000), CONSTANTS)
    talking = need(Demand(1000, tokens_per_run=1000), CONSTANTS)
    assert talking.server_cores > 10 * silent.server_cores
    assert talking.postgres_cores == silent.postgres_cores


def test_what_a_machine_serves_at_most():
    assert most_runs_per_second(2, CONSTANTS, client_ms=0.4) == 500


def test_the_command_reads_its_constants(tmp_path, capsys):
    (tmp_path / "capacity.json").write_text(json.dumps({"constants": asdict(CONSTANTS)}))
    assert main(["--runs-per-second", "100", "500", "--results", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "| 500 | 500 | 2.5 |" in lines[3]


@measuring
def test_a_measured_point_is_predicted(tmp_path, capsys):
    """The short form: whether it measures at all, not how well."""
    main(["--measure", "--seconds", "1", "--results", str(tmp_path)])
    found = json.loads((tmp_path / "capacity.json").read_text())
    assert found["machine"]["loop_milliseconds"] > 0
    assert found["constants"]["python_ms"] > found["constants"]["postgres_ms"] > 0
    assert "predicted" in capsys.readouterr().out
