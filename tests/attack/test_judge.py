"""The judge finds each thing that must not happen."""

import math
from dataclasses import replace

import pytest

from tests.attack.judge import Facts, let_through, p99
from tests.attack.neighbour import Call
from tests.attack.report import keep, summary
from tests.attack.tally import Tally

CALLS = [Call(float(number), "wait", 0.1) for number in range(100)]
GOOD = Facts(1, "nothing", Tally(tried=3, refused=1), before=CALLS, during=CALLS)


def slow(count: int) -> list[Call]:
    return [replace(call, seconds=1.1) for call in CALLS[:count]] + CALLS[count:]


def test_what_held_is_told_so():
    assert not let_through(GOOD)
    assert (GOOD.tally.refused, GOOD.tally.absorbed) == (1, 2)
    assert not let_through(replace(GOOD, during=slow(1)))


def test_a_neighbour_is_slow_in_the_attack_as_it_was_before():
    before = [replace(call, seconds=0.5) for call in CALLS]
    assert not let_through(replace(GOOD, before=before, during=slow(2)))
    late = [replace(call, seconds=2.1) for call in CALLS]
    assert let_through(replace(GOOD, before=before, during=late)) == {
        "the neighbour's p99 was 2.10 s": 1
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"during": slow(2)}, "p99 was 1.10 s"),
        ({"during": [*CALLS, Call(1.0, "stream", 0.1, "503 full")]}, "stream failed: 503 full"),
        ({"during": []}, "no call in the attack"),
        ({"before": []}, "no call before the attack"),
        ({"most_memory": 10**9 + 1}, "1000 MB"),
        ({"tally": Tally()}, "nothing was tried"),
        ({"restarts": 1}, "replaced"),
        ({"watchdog_kills": 1}, "watchdog"),
        ({"slowest_health": 1.1, "health": True}, "/livez took 1.1 s"),
        ({"aftermath": ["the server was not ready"]}, "not ready"),
    ],
)
def test_what_must_not_happen_is_found(change, sentence):
    found = let_through(replace(GOOD, **change))
    assert sum(found.values()) == 1
    assert sentence in next(iter(found))


def test_each_time_that_something_is_let_through_counts():
    tally = Tally(tried=5)
    for _ in range(2):
        tally.judge(False, "a bad value was taken")
    tally.judge(True, "a good one was not")
    again = Tally.load(tally.dump())
    assert let_through(replace(GOOD, tally=again)) == {"a bad value was taken": 2}
    assert again.absorbed == 3


def test_p99_without_calls_is_no_success():
    assert p99([]) == math.inf


def test_a_run_of_some_rows_leaves_the_others_in_the_table(tmp_path):
    results, page = tmp_path / "attack.json", tmp_path / "attack.md"
    page.write_text("before\n<!-- table -->\n<!-- end of table -->\nafter\n")
    keep([summary(GOOD), summary(replace(GOOD, number=2))], results, page)
    keep([summary(replace(GOOD, what="again"))], results, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert text.count("| 3 | 1 | 2 |") == 2
    assert "| 1 | again |" in text
    assert "| 2 | nothing |" in text
