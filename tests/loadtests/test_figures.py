"""What the load test reads and reckons, without Locust."""

import re
from dataclasses import replace

import pytest

from loadtests.common.events import Event, StreamFailed, read_events, require_end, spoken
from loadtests.common.profile import PROFILES, profile_from
from loadtests.common.server import Difference, Snapshot, quantile, samples_of
from loadtests.common.thresholds import Overall, broken_thresholds, percentile_of

PAGE = """
# TYPE headrace_checkpoint_seconds histogram
headrace_checkpoint_seconds_sum{{operation="put"}} {total}
headrace_checkpoint_seconds_bucket{{le="0.01",operation="put"}} {fast}
headrace_checkpoint_seconds_bucket{{le="0.02",operation="put"}} {all}
headrace_checkpoint_seconds_bucket{{le="+Inf",operation="put"}} {all}
headrace_checkpoint_seconds_count{{operation="put"}} {all}
headrace_runs_total{{graph="chat",status="success"}} {all}
headrace_runs_total{{graph="chat",status="error"}} 3.0
"""


def difference(before: dict[str, float], after: dict[str, float]) -> Difference:
    first, last = (Snapshot({}, samples_of(PAGE.format(**page))) for page in (before, after))
    return Difference(first, last)


def test_events_are_read_as_their_empty_lines_come():
    lines = [b": heartbeat\r\n", b"\r\n", b"event: messages\r\n", b'data: [{"content":"Hi"}]\r\n']
    lines += [b"\r\n", b"event: end\n", b"data: {}\n", b"\n", b"event: cut\n", b"data: 1\n"]
    assert list(read_events(lines)) == [
        Event("messages", [{"content": "Hi"}]),
        Event("end", {}),
    ]


def test_ids_of_events_are_read():
    lines = [b"id: 7\n", b"event: custom\n", b"data: 1\n", b"\n", b"data: 2\n", b"\n"]
    assert list(read_events(lines)) == [Event("custom", 1, "7"), Event("message", 2)]


def test_what_is_no_json_is_no_event():
    with pytest.raises(StreamFailed, match="not JSON"):
        list(read_events([b"data: oops\n", b"\n"]))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "no event"),
        (["metadata", "messages"], "stopped after 'messages'"),
        (["metadata", "error"], "error event"),
        (["error", "end"], "error event"),
    ],
)
def test_streams_that_fail(names, reason):
    with pytest.raises(StreamFailed, match=reason):
        require_end([Event(name, {}) for name in names])


def test_a_stream_that_ends_speaks():
    events = [Event("metadata", {}), *(Event("messages", [{"content": c}]) for c in ("a", " b"))]
    events.append(Event("end", {}))
    require_end(events)
    assert spoken(events) == "a b"


def test_the_difference_leaves_out_what_was_before():
    before = {"total": 5.0, "fast": 0, "all": 100}
    after = {"total": 5.6, "fast": 50, "all": 150}
    gained = difference(before, after)
    assert gained.latency("headrace_checkpoint_seconds", operation="put") == {
        "count": 50,
        "mean_ms": 12.0,
        "p50_ms": 5.0,
        "p95_ms": 9.5,
    }
    assert gained.figures()["runs_by_status"] == {"success": 50}


def test_a_server_that_began_anew_counts_from_zero():
    gained = difference({"total": 5.0, "fast": 9, "all": 9}, {"total": 0.1, "fast": 2, "all": 4})
    assert gained.by("headrace_runs_total", "status") == {"success": 4}


def test_quantiles_of_nothing_and_of_the_last_bucket():
    assert quantile({}, 0.95) == 0.0
    assert quantile({0.1: 0.0, float("inf"): 0.0}, 0.95) == 0.0
    assert quantile({0.1: 0.0, float("inf"): 10.0}, 0.95) == 0.1


def test_settings_change_the_profile():
    assert profile_from({}) == PROFILES["chat"]
    assert profile_from({"LOAD_PROFILE": "smoke"}).seconds <= 10
    changed = profile_from({"LOAD_USERS": "7", "LOAD_SECONDS": "20", "LOAD_THINK_SECONDS": "0.2"})
    assert (changed.users, changed.seconds, changed.ramp_seconds) == (7, 20, 5)
    assert changed.pause(0) == 0.1
    assert changed.pause(1) == pytest.approx(0.3)


def test_settings_change_what_is_too_slow_and_when_it_is_enough():
    changed = profile_from(
        {
            "LOAD_PROFILE": "mixed",
            "LOAD_P95_MS": "50",
            "LOAD_P99_MS": "80",
            "LOAD_MAX_FAILURES": "0.01",
            "LOAD_REQUESTS": "1000",
            "LOAD_RAMP_SECONDS": "3",
        }
    )
    assert (changed.p95_ms, changed.p99_ms, changed.max_failures) == (50, 80, 0.01)
    assert (changed.requests, changed.ramp_seconds) == (1000, 3)


def test_users_come_in_steps():
    profile = profile_from({"LOAD_PROFILE": "overload", "LOAD_USERS": "100", "LOAD_SECONDS": "60"})
    assert [profile.users_at(at) for at in (0, 10, 20, 39.9, 40, 59.9, 60)] == [
        10,
        20,
        100,
        100,
        10,
        10,
        None,
    ]


@pytest.mark.parametrize(
    ("found", "completed", "told"),
    [
        (Overall(100, 0, 10, 40, 50), 1, []),
        (Overall(100, 0, 10, 40, 50), 0, ["no scenario was completed"]),
        (Overall(100, 2, 10, 40, 50), 1, ["2 of 100 requests failed"]),
        (Overall(100, 1, 10, 41, 51), 1, ["p95 of all requests is 41 ms", "p99 .* is 51 ms"]),
    ],
)
def test_broken_thresholds_are_told(found, completed, told):
    profile = replace(PROFILES["mixed"], max_failures=0.01, p95_ms=40, p99_ms=50)
    sentences = broken_thresholds(profile, found, completed)
    assert len(sentences) == len(told)
    assert all(re.search(part, one) for one, part in zip(sentences, told, strict=True))


def test_percentiles_of_counted_times():
    times = {10: 90, 20: 9, 500: 1}
    assert [percentile_of(times, rank) for rank in (0.5, 0.95, 0.99, 1.0)] == [10, 20, 20, 500]
    assert percentile_of({}, 0.5) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOAD_MAX_FAILURES", "-0.1"),
        ("LOAD_P95_MS", "0"),
        ("LOAD_REQUESTS", "many"),
        ("LOAD_PROFILE", "storm"),
        ("LOAD_USERS", "many"),
        ("LOAD_SECONDS", "-1"),
        ("LOAD_THINK_SECONDS", "nan"),
    ],
)
def test_settings_that_cannot_be(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        profile_from({name: value})
