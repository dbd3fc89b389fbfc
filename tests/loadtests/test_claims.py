"""A small form of ``python -m loadtests.claims``: claims stay as quick as they were at first."""

from statistics import median

from loadtests.claims import report, under_an_old_snapshot

_PART = 50


def test_claims_of_a_long_queue_under_an_old_snapshot(database_url):
    found = under_an_old_snapshot(database_url, pending=4_000, claims=150, turns=150)
    told = report(found)
    assert [one["count"] for one in told.values()] == [150, 150, 150]
    assert all(0 < one["p50_ms"] <= one["p99_ms"] <= one["max_ms"] for one in told.values())
    # What was claimed before is still in the indexes. The long form has a bound in milliseconds.
    for seconds in (found.claims, found.next_claims, found.ends):
        assert median(seconds[-_PART:]) < 4 * median(seconds[:_PART])
