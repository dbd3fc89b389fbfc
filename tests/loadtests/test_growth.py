"""The short form of ``make growth``: every figure is there. What they are is for the long form."""

import json

import pytest

from loadtests.growth.__main__ import main


@pytest.mark.parametrize("part", ["chat", "messages_state", "runs_stored", "queue_length"])
def test_the_short_form_measures(part, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert main(["--short", "--only", part, "--results", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "growth.json").read_text())
    (by,) = [value for key, value in found[part].items() if key.startswith("by_")]
    assert all(cost["server_ms"] > 0 and cost["p50_ms"] > 0 for cost in by.values())
    assert "PG ms" in capsys.readouterr().out
