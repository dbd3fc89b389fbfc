"""What the load test reads and reckons, without Locust."""

import pytest

from loadtests.common.events import Event, StreamFailed, read_events, require_end, spoken
from loadtests.common.profile import PROFILES, profile_from
from loadtests.common.server import Difference, Snapshot, quantile, samples_of

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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOAD_PROFILE", "storm"),
        ("LOAD_USERS", "many"),
        ("LOAD_SECONDS", "-1"),
        ("LOAD_THINK_SECONDS", "nan"),
    ],
)
def test_settings_that_cannot_be(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        profile_from({name: value})
