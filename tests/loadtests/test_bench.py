"""The bench: its short form from end to end, and what it says of savers that lose something."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest

from loadtests.bench.contenders import CONTENDERS
from loadtests.bench.growth import VARIANTS
from loadtests.bench.options import PARTS, PROFILES
from loadtests.bench.workloads import WORKLOADS
from tests.support.sources import ROOT

DURABLE = {name for name, entrant in CONTENDERS.items() if entrant.durable}
RATIOS = {"vs_upstream_pool", "vs_tutorial", "vs_memory", "lone_p50_vs_upstream"}
COUNTS = {"statements", "round_trips", "transactions"}


class Outcome(NamedTuple):
    code: int
    printed: str
    folder: Path

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "checkpoint.json").read_text())
        return found


def bench(folder: Path, *, module: str = "loadtests.bench", **settings: str) -> Outcome:
    """What `make bench` runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BENCH_")}
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env={**kept, "BENCH_PROFILE": "short", "BENCH_RESULTS": str(folder), **settings},
        capture_output=True,
        text=True,
        timeout=240,
    )
    return Outcome(done.returncode, done.stdout + done.stderr, folder)


@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    outcome = bench(tmp_path_factory.mktemp("bench"))
    assert outcome.code == 0, outcome.printed
    return outcome


def figures(found: Any) -> Iterator[float]:
    """Every number in a result."""
    if isinstance(found, dict):
        for value in found.values():
            yield from figures(value)
    elif isinstance(found, (int, float)):
        yield found


@pytest.mark.timeout(300)
def test_every_workload_has_its_ratios_and_every_contender_its_figures(passed):
    for name in WORKLOADS:
        found = passed.result[name]
        assert set(found["ratios"]) == RATIOS
        assert all(ratio > 0 for ratio in found["ratios"].values())
        assert set(found["contenders"]) == set(found["lone"]) == set(CONTENDERS)
        for contender, measured in {**found["contenders"], **found["lone"]}.items():
            absent = {key for key, value in measured.items() if value is None}
            database = {"postgres_cpu_ms_per_run", "transactions_per_run", "wal_bytes_per_run"}
            assert absent == (set() if contender in DURABLE else database)
            assert min(figures(measured)) > 0, (name, contender, measured)


def test_statements_are_counted_as_postgres_counts_transactions(passed):
    found = passed.result["trivial"]
    assert set(found["statements"]) == DURABLE
    for contender, counted in found["statements"].items():
        for how, key in (("alone", "lone"), ("concurrent", "contenders")):
            assert set(counted[how]) == COUNTS
            assert counted[how]["statements"] >= counted[how]["transactions"] > 0
            if contender != "headrace":  # whose batches are as they come
                told = found[key][contender]["transactions_per_run"]["median"]
                assert counted[how]["transactions"] == pytest.approx(told, rel=0.15)


def test_the_other_parts_are_there(passed):
    result = passed.result
    lanes = {f"lanes={count}" for count in PROFILES["short"].lanes}
    assert set(result["seconds"]) == set(PARTS)
    assert set(result["lanes"]) == lanes
    assert set(result["large_values"]) == lanes | {"upstream_pool", "postgres alone"}
    assert all(min(figures(one)) > 0 for one in result["large_values"].values())
    assert result["slow_database"]["way"]["round_trip_ms"] >= 1.8
    assert result["slow_database"]["way"]["commit_ms"] >= 4.5
    assert set(result["slow_database"]["trivial"]["ratios"]) == RATIOS - {"vs_memory"}
    assert set(result["growth"]) == set(VARIANTS)
    for figure in ("kept", "wal"):
        assert result["growth"]["chat"][f"{figure}_bytes_per_turn"]["ratio"] > 0


def test_durability_was_on_and_no_place_is_told(passed):
    assert passed.result["machine"]["loop_milliseconds"] > 0
    settings = passed.result["postgres"]
    durable = ("fsync", "synchronous_commit", "full_page_writes")
    assert [settings[name] for name in durable] == ["on", "on", "on"]
    assert str(passed.folder) not in json.dumps(passed.result)
    assert os.uname().nodename not in json.dumps(passed.result)


def test_table_and_chart_name_everybody(passed):
    assert all(name in passed.printed for name in (*WORKLOADS, *CONTENDERS, *RATIOS, "floor"))
    chart = ElementTree.parse(passed.folder / "checkpoint-engine.svg")
    assert len(list(chart.iter("{http://www.w3.org/2000/svg}rect"))) == 4 * len(CONTENDERS)


@pytest.mark.parametrize(
    ("contender", "said"),
    [("forgetful", "checkpoints"), ("careless", "writes"), ("hollow", "conversation")],
)
def test_a_saver_that_loses_something_fails(contender, said, empty_database_url, tmp_path):
    outcome = bench(
        tmp_path,
        module="tests.loadtests.lossy_bench",
        DATABASE_URL=empty_database_url,
        BENCH_ONLY="throughput",
        BENCH_WORKLOADS="trivial",
        BENCH_CONTENDERS=f"upstream_pool,{contender}",
        BENCH_RUNS="40",
    )
    assert outcome.code == 1, outcome.printed
    assert f"{contender}, trivial: thread" in outcome.printed
    assert said in outcome.printed
    assert not (tmp_path / "checkpoint.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_bench_that_is_stopped_takes_its_postgres_with_it(number, tmp_path):
    # Not below pytest's own folders, where a Postgres without root's rights could not come in.
    with tempfile.TemporaryDirectory(prefix="hrb-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        process = subprocess.Popen(
            [sys.executable, "-m", "loadtests.bench"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": folder, "BENCH_RESULTS": str(tmp_path)},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        assert process.stderr.readline().startswith("round 1/")
        process.send_signal(number)
        assert process.wait(timeout=60) == 130, process.stderr.read()
        process.stderr.close()
        assert list(Path(folder).iterdir()) == []
