"""The short form of ``make growth``: every figure is there. What they are is for the long form."""

import json

import pytest

from loadtests.growth.__main__ import main
from tests.support.load import measuring


@measuring
@pytest.mark.parametrize("part", ["chat", "messages_state", "runs_stored", "queue_length"])
def test_the_short_form_measures(part, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert main(["--short", "--only", part, "--results", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "growth.json").read_text())
    (by,) = [value for key, value in found[part].items() if key.startswith("by_")]
    assert all(cost["server_ms"] > 0 and cost["p50_ms"] > 0 for cost in by.values())
    assert "PG ms" in capsys.readouterr().out
    assert found["machine"]["loop_milliseconds"] > 0
    assert "processor milliseconds" in (tmp_path / "growth.svg").read_text()


def test_bytes_of_a_run_are_those_of_runs_that_have_rows_of_the_saver(tmp_path, monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr("loadtests.growth.__main__._MOST_CHECKPOINTS", 100)
    arguments = ["--short", "--only", "runs_stored", "--lengths", "100", "2000"]
    assert main([*arguments, "--results", str(tmp_path)]) == 0
    sizes = json.loads((tmp_path / "growth.json").read_text())["runs_stored"]["bytes_per_run"]
    assert sizes["checkpoints"] > 1000
