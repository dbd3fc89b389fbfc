"""A small form of ``python -m loadtests.claims``: it measures, and claims stay quick."""

from loadtests.claims import under_an_old_snapshot


def test_claims_of_a_long_queue_under_an_old_snapshot(database_url):
    found = under_an_old_snapshot(database_url, pending=4_000, claims=150, turns=150)
    assert [one["count"] for one in found.values()] == [150, 150, 150]
    # The real bound is for a quiet machine.
    assert all(one["p50_ms"] < 20 for one in found.values())
