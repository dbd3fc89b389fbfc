"""`python -m loadtests.noisy` in small: what it measures of a server with tenants."""

import json

import pytest

from loadtests.noisy.__main__ import Plan, run
from tests.support.load import measuring


@measuring
@pytest.mark.alone
def test_a_noisy_tenant_in_small(tmp_path, capsys):
    """Too short for the floor: what is asked and refused is looked at."""
    run(Plan(rounds=1, seconds=3.0, limit=10.0, neighbour=10.0), results=tmp_path)
    told = json.loads((tmp_path / "noisy.json").read_text())
    (only,) = told["rounds"]
    above, at_limit = only["above"], only["at_limit"]
    assert set(above["neighbour"]["statuses"]) == set(at_limit["neighbour"]["statuses"]) == {"200"}
    assert above["noisy"]["statuses"]["429"] > 5 * above["noisy"]["statuses"]["200"]
    assert set(at_limit["noisy"]["statuses"]) <= {"200", "429"}
    assert "floor 1.2" in capsys.readouterr().out
