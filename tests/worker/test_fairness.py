"""Who gets the next place: the caller with the fewest, and nobody above the share."""

from datetime import UTC, datetime, timedelta

import structlog.testing

from headrace.queue.ready_callers import CallerRuns
from headrace.shares import Places
from headrace.worker.fairness import LimitLog, caller_figures, fair_share

START = datetime(2030, 1, 1, tzinfo=UTC)


def ready(caller, runs, seconds=0):
    return CallerRuns(caller, runs, START + timedelta(seconds=seconds))


def chosen(places, *waiting, limit=20):
    return {one.caller: one.runs for one in fair_share(places, waiting, limit)}


def holding(total, share=0.75, **held):
    places = Places(total, share)
    for caller, count in held.items():
        for _ in range(count):
            places.hold(caller)
    return places


def test_one_caller_gets_its_share_and_no_more():
    assert chosen(holding(20), ready("a", 20)) == {"a": 15}
    assert chosen(holding(20, a=15), ready("a", 20)) == {}


def test_places_go_in_turns_though_one_has_waited_longer():
    assert chosen(holding(100), ready("a", 20), ready("b", 20, 60), limit=10) == {"a": 5, "b": 5}


def test_the_caller_with_the_fewest_places_comes_first():
    places = holding(100, a=10)
    assert chosen(places, ready("a", 20), ready("b", 20, 60), limit=10) == {"b": 10}


def test_of_callers_who_hold_as_many_the_longest_ready_comes_first():
    places = holding(100)
    assert chosen(places, ready("a", 5, 60), ready("b", 5), limit=1) == {"b": 1}


def test_who_holds_none_gets_the_last_place():
    assert chosen(holding(4, a=3), ready("a", 5), ready("b", 5, 60)) == {"b": 1}


def test_no_more_are_claimed_than_are_ready():
    assert chosen(holding(100), ready("a", 1), ready("b", 2, 60)) == {"a": 1, "b": 2}


def test_choosing_takes_no_places():
    places = holding(20)
    chosen(places, ready("a", 20))
    assert places.taken == 0


def test_each_choice_keeps_since_when_its_runs_are_ready():
    (one,) = fair_share(holding(20), [ready("a", 3, 7)], 2)
    assert one == ready("a", 2, 7)


def test_figures_tell_who_is_at_the_limit():
    figures = caller_figures(holding(20, a=15, b=1))
    assert (figures.holding, figures.at_limit, figures.most_places) == (2, 1, 15)
    assert caller_figures(holding(20, a=15, b=5)).at_limit == 0
    assert caller_figures(holding(20, share=1.0, a=19)).at_limit == 0
    assert caller_figures(Places(5)).most_places == 0


def test_a_caller_at_its_limit_is_logged_once_a_minute():
    log = LimitLog(holding(20, a=15))
    with structlog.testing.capture_logs() as lines:
        for caller in ("a", "a", "b"):
            log.reached(caller)
    assert [(line["caller"], line["places"]) for line in lines] == [("a", 15), ("b", 0)]
