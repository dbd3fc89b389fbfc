"""A small form of ``python -m loadtests.claims``: it measures, and claims stay quick."""

from loadtests.claims import under_an_old_snapshot


def test_claims_of_a_long_queue_under_an_old_snapshot(database_url):
    found = under_an_old_snapshot(database_url, pending=4_000, claims=150)
    assert found["claims"] == 150
    # The real bound is for a quiet machine.
    assert found["p50_ms"] < 20
