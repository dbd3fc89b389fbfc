"""What the bench reckons and reads, without a server."""

import random
from itertools import pairwise

import pytest

from loadtests.bench.cells import Sample
from loadtests.bench.comparison import OURS as HEADRACE
from loadtests.bench.comparison import ratios_of
from loadtests.bench.contenders import CONTENDERS
from loadtests.bench.options import options_from
from loadtests.bench.wire import Counts, Meter
from loadtests.bench.workloads import WORKLOADS
from loadtests.measuring.figures import Target, spread


def sample(speed: float) -> Sample:
    return Sample(speed, 1.0, 1.0, 1.0, None, None, None)


def test_a_ratio_is_the_median_of_the_rounds_not_the_ratio_of_medians():
    samples = {
        HEADRACE: [sample(speed) for speed in (300, 100, 900)],
        "upstream_pool": [sample(speed) for speed in (100, 50, 100)],
    }
    ratios = ratios_of(samples)
    assert ratios == {"vs_upstream_pool": [3.0, 2.0, 9.0]}
    assert spread(ratios["vs_upstream_pool"]) == {"median": 3.0, "min": 2.0, "max": 9.0}


def test_targets_in_both_directions():
    speed, wait = Target(3.5, 5), Target(1.0, 0.7, lower_is_better=True)
    assert [speed.verdict(value) for value in (3.4, 3.5, 5)] == ["missed", "floor", "goal"]
    assert [wait.verdict(value) for value in (1.1, 1.0, 0.7)] == ["missed", "floor", "goal"]
    assert Target(2.0, lower_is_better=True).verdict(0.1) == "floor"


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


SENT = b"".join(
    [
        message(b"", b"\0\3\0\0user\0postgres\0\0"),
        message(b"Q", b"BEGIN\0"),
        *[message(b"P", b"x" * 300), message(b"B"), message(b"E", b"\0\0\0\0\0"), message(b"S")],
        *[message(b"B", b"E" * 70_000), message(b"E", b"\0\0\0\0\0"), message(b"S")],
    ]
)
ANSWERED = b"".join(
    [
        *[message(b"R", b"\0\0\0\0"), message(b"Z", b"I")],
        *[message(b"C", b"BEGIN\0"), message(b"Z", b"T")],
        *[message(b"1"), message(b"D", b"Z" * 70_000), message(b"C", b"Z\0"), message(b"Z", b"I")],
    ]
)


@pytest.mark.parametrize("pieces", [1, 2, 3, 50, 500])
def test_the_protocol_is_counted_however_it_is_cut(pieces):
    counts = Counts()
    meter = Meter(counts)
    for data, take in ((SENT, meter.sent), (ANSWERED, meter.answered)):
        cuts = sorted(random.Random(pieces).sample(range(1, len(data)), pieces - 1))
        for start, end in pairwise([0, *cuts, len(data)]):
            take(data[start:end])
    assert counts == Counts(statements=3, round_trips=3, transactions=2)


def test_the_protocol_is_counted_byte_by_byte():
    counts = Counts()
    meter = Meter(counts)
    for byte in SENT:
        meter.sent(bytes([byte]))
    for byte in ANSWERED:
        meter.answered(bytes([byte]))
    assert counts == Counts(statements=3, round_trips=3, transactions=2)


def test_settings_narrow_it():
    assert options_from({}, CONTENDERS).whole
    assert options_from({"BENCH_ROUNDS": "2"}, CONTENDERS).whole
    narrow = options_from(
        {"BENCH_WORKLOADS": "tutorial, trivial", "BENCH_CONTENDERS": "headrace"}, CONTENDERS
    )
    assert narrow.workloads == narrow.further_workloads == ("trivial", "tutorial")
    assert narrow.contenders == ("headrace",)
    assert not narrow.whole


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BENCH_PROFILE", "long"),
        ("BENCH_ROUNDS", "0"),
        ("BENCH_RUNS", "many"),
        ("BENCH_ONLY", "sleep"),
        ("BENCH_CONTENDERS", "redis"),
    ],
)
def test_settings_that_cannot_be(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        options_from({name: value}, CONTENDERS)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("trivial", ["hi", "hello"]),
        ("ten_step", ["hi", *(f"step {number}" for number in range(10))]),
        ("long_thread", ["hi", "hello"]),
        ("tutorial", ["hi", "hello"]),
    ],
)
async def test_workloads_say_what_they_are_known_to_say(name, said):
    workload = WORKLOADS[name]
    state = await workload.build().compile().ainvoke(workload.input())
    assert [one.content for one in state["messages"]] == said
    assert len(workload.seed()["messages"]) == max(0, workload.messages_before - 1)
