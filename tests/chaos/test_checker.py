"""The checker on histories made by hand: sound ones pass, and each way to be wrong is found."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.checker import RULES, lost, violations
from tests.chaos.history import (
    Asked,
    Checkpoint,
    Entry,
    Event,
    Failure,
    Firing,
    History,
    NodeEvent,
    Run,
    Thread,
)

THREAD, RUN, OTHER = "thread", "run", "other"


def entry(step: int, *, attempt: int = 1, run_id: str = RUN, turn: str = "turn") -> Entry:
    return Entry(turn, run_id, attempt, "pod/1", step)


def checkpoint(
    number: int,
    *,
    attempt: int = 1,
    run_id: str = RUN,
    after: int | None = None,
    at: float | None = None,
):
    parent = number - 1 if after is None else after
    written_at = number if at is None else at
    return Checkpoint(
        THREAD, str(number), str(parent) if parent else None, run_id, attempt, written_at
    )


def token(number: int, step: int, token: int, *, attempt: int = 1) -> Event:
    return Event(number, "custom", {"attempt": attempt, "step": step, "token": token})


def begin(number: int, attempt: int) -> Event:
    return Event(number, "metadata", {"run_id": RUN, "attempt": attempt})


END = Event(None, "end", {"run_id": RUN, "status": "success"})


def stored() -> list[Event]:
    """An attempt that was cut in its second step, and the one that went on."""
    return [
        begin(1, 1),
        token(2, 0, 0),
        token(3, 0, 1),
        token(4, 1, 0),
        begin(5, 2),
        token(6, 1, 0, attempt=2),
        token(7, 1, 1, attempt=2),
        END,
    ]


def memory_over_a_minute(*, until: float) -> list[tuple[float, int]]:
    """Resident bytes that grow by a MiB a second until then."""
    return [(float(at), int(100 + min(at, until)) << 20) for at in range(60)]


def sound() -> History:
    """A run of two attempts that a client followed to its end and read again."""
    history = History()
    asked = Asked("name", "resumable", THREAD, "turn", [0, 1], {RUN}, ["success"])
    asked.events, asked.stream_ended = stored(), True
    asked.replays = {-1: stored(), 4: stored()[4:]}
    asked.shown = [[entry(0), entry(1, attempt=2)]]
    asked.asked_at, asked.accepted_at = 99.0, 100.0
    asked.told_at, asked.shown_at = [110.0], [110.0]
    history.asked = [asked]
    history.final.runs = [
        Run(RUN, THREAD, "name", "success", 2, 1, written_at=3),
        Run(OTHER, THREAD, "other", "success", 1, 0),
    ]
    history.final.threads = [Thread(THREAD, "idle", None)]
    history.final.checkpoints = [
        checkpoint(1),
        checkpoint(2),
        checkpoint(3, attempt=2),
        checkpoint(4, run_id=OTHER),
    ]
    history.final.logs = {
        THREAD: [entry(0), entry(1, attempt=2), entry(0, run_id=OTHER, turn="next")]
    }
    history.final.leaked = {"pod/1": 0}
    history.final.memory = {"pod/1": memory_over_a_minute(until=20)}
    return history


def broken_rules(history: History) -> list[str]:
    return [rule for rule, found in violations(history).items() if found]


def test_a_sound_history_breaks_no_rule():
    assert violations(sound()) == {rule: [] for rule in RULES}


def test_so_does_an_empty_one():
    assert broken_rules(History()) == []


Change = Callable[[History], object]


def run_as(**changes: object) -> Change:
    def change(history: History) -> None:
        history.final.runs[0] = replace(history.final.runs[0], **changes)  # type: ignore[arg-type]

    return change


def thread_as(**changes: object) -> Change:
    def change(history: History) -> None:
        first = history.final.threads[0]
        history.final.threads[0] = replace(first, **changes)  # type: ignore[arg-type]

    return change


def events_as(*events: Event) -> Change:
    def change(history: History) -> None:
        history.asked[0].events = list(events)

    return change


def asked_as(**changes: object) -> Change:
    def change(history: History) -> None:
        for name, value in changes.items():
            setattr(history.asked[0], name, value)

    return change


def undone(history: History) -> None:
    """As :func:`sound`, but the run was rolled back, by its row alone."""
    asked_as(may=["gone"], told=["gone"], shown=[], shown_at=[])(history)
    history.final.runs.pop(0)


TERMINAL = "one terminal status"
AS_ASKED = "stopped, undone, refused, later: as asked"
GO_ON = "runs go on"
BUSY = "no thread busy without a run"
TURNS = "no acknowledged turn missing or twice"
CHAIN = "one chain, attempts do not overlap"
LEASE = "no write after the lease is lost"
STREAMS = "resumable streams: no gap, no duplicate"
PLAIN = "undisturbed streams complete"
ONCE = "idempotent retries: one run"
SLOTS = "each slot of a cron: one run, none passed over"
AGAIN = "no step that ended before a drain is begun again"
WEBHOOKS = "webhooks: each end at least once"
CARRIED = "no request failed that the SDK would not carry through"


@pytest.mark.parametrize(
    ("rules", "change"),
    [
        ([TERMINAL, BUSY], run_as(status="running")),
        ([TERMINAL, BUSY], run_as(status="pending")),
        ([TERMINAL, GO_ON], run_as(status="error")),
        ([TERMINAL, LEASE], lambda history: history.final.runs.clear()),
        ([TERMINAL], lambda history: history.asked[0].hear("error")),
        ([BUSY], thread_as(status="busy")),
        ([BUSY], thread_as(status="busy", running_run_id=RUN)),
        ([TURNS, CHAIN], lambda history: history.final.logs[THREAD].pop(0)),
        ([TURNS], lambda history: history.final.logs[THREAD].__delitem__(slice(1, None))),
        ([TURNS, CHAIN], lambda history: history.final.logs[THREAD].append(entry(0))),
        ([TURNS], lambda history: history.asked[0].see([entry(0), entry(1)])),
        ([TURNS], lambda history: history.asked[0].steps.append(2)),
        # A step that a process without its lease wrote beside its successor's.
        (
            [CHAIN, LEASE],
            lambda history: history.final.checkpoints.append(checkpoint(5, after=2)),
        ),
        ([CHAIN, LEASE], lambda history: history.final.checkpoints.append(checkpoint(5))),
        (
            [CHAIN],
            lambda history: history.final.checkpoints.append(checkpoint(5, attempt=1, at=2)),
        ),
        ([CHAIN], lambda history: history.final.checkpoints.pop(1)),
        ([CHAIN], lambda history: history.final.logs[THREAD].append(entry(1, turn="next"))),
        # In its place in the chain, but too late.
        (
            [LEASE],
            lambda history: history.final.checkpoints.__setitem__(1, checkpoint(2, at=3.5)),
        ),
        ([LEASE], run_as(written_at=2.5)),
        # Streams: a gap, a duplicate, an order, a seam without its mark, an unstored event.
        ([STREAMS], events_as(*stored()[:2], *stored()[3:])),
        ([STREAMS], events_as(*stored()[:3], *stored()[2:])),
        ([STREAMS], events_as(stored()[1], stored()[0], *stored()[2:])),
        ([STREAMS], events_as(*stored()[:4], *stored()[5:])),
        ([STREAMS], events_as(*stored()[:4], token(5, 1, 1), *stored()[5:])),
        ([STREAMS], events_as(*stored()[:6])),
        ([STREAMS], events_as(*stored()[:4], token(5, 1, 1))),
        ([STREAMS], lambda history: history.asked[0].replays[4].pop(1)),
        ([STREAMS], lambda history: history.asked[0].replays[4].insert(0, token(4, 1, 0))),
        ([ONCE], lambda history: history.final.runs.append(replace(history.final.runs[0]))),
        ([TERMINAL, ONCE], lambda history: history.asked[0].run_ids.add("a third")),
        (["pool connections leaked"], lambda history: history.final.leaked.update(other=1)),
        (
            ["memory flat"],
            lambda history: history.final.memory.update(one=memory_over_a_minute(until=60)),
        ),
        # Cancelled or made to give way, and went on all the same; undone, and left something.
        ([AS_ASKED], asked_as(may=["interrupted"], told=[], told_at=[])),
        ([AS_ASKED], asked_as(may=["gone"], told=[], told_at=[])),
        ([TERMINAL], asked_as(may=["success", "gone"], told=["gone"])),
        ([AS_ASKED, LEASE], undone),
        ([AS_ASKED], asked_as(refused=True, run_ids=set(), told=[], told_at=[])),
        ([AS_ASKED], asked_as(not_before=1.0)),
    ],
)
def test_every_way_to_be_wrong_is_found(rules, change):
    history = sound()
    change(history)
    assert broken_rules(history) == rules


def test_a_turn_that_nobody_acknowledged_may_be_missing_but_not_there_twice():
    history = sound()
    history.asked.append(Asked("unheard", "wait", THREAD, "unheard", [0]))
    assert broken_rules(history) == []
    history.final.logs[THREAD] += [
        entry(0, run_id="a", turn="unheard"),
        entry(0, run_id="b", turn="unheard"),
    ]
    assert broken_rules(history) == [TURNS, CHAIN]


def test_a_stream_that_was_given_up_may_lack_its_end():
    history = sound()
    history.asked[0].events = stored()[:5]
    history.asked[0].stream_ended = False
    assert broken_rules(history) == []


@pytest.mark.parametrize(
    ("firings", "deleted_at", "rules"),
    [
        ([(10, 10.1), (11, 11.0), (12, 12.9), (13, 13.2)], 14, []),
        # Late by three seconds: those between are passed over.
        ([(10, 13.7), (14, 14.1)], 15, []),
        ([(10, 10.1), (10, 10.2)], 12, [SLOTS]),
        ([(10, 10.1), (12, 12.1)], 13, [SLOTS]),
        ([(10, 13.7), (15, 15.1)], 16, [SLOTS]),
        ([(10, 10.1)], 50, [SLOTS]),
        ([], 50, [SLOTS]),
    ],
)
def test_a_slot_of_a_cron_has_one_run_and_none_is_passed_over(firings, deleted_at, rules):
    history = sound()
    asked = Asked("cron", "cron", "another", "cron", [0], cron_id="c", accepted_at=9.5)
    asked.deleted_at = deleted_at
    history.asked.append(asked)
    history.final.firings = [Firing("c", slot, made_at) for slot, made_at in firings]
    assert broken_rules(history) == rules


def node(event: str, step: int, attempt: int) -> NodeEvent:
    return NodeEvent(event, RUN, attempt, "turn", step)


@pytest.mark.parametrize(
    ("ended", "released", "rules"),
    [
        (True, True, [AGAIN]),
        # It was cut in mid-step; or its process died, and nobody could store what it had done.
        (False, True, []),
        (True, False, []),
    ],
)
def test_a_step_that_ended_before_a_drain_is_not_begun_again(ended, released, rules):
    history = sound()
    history.final.node_events = [
        node("begun", 0, 1),
        *([node("ended", 0, 1)] if ended else []),
        node("begun", 0, 2),
        node("ended", 0, 2),
        node("begun", 1, 2),
    ]
    history.final.released = {(RUN, 1)} if released else set()
    assert broken_rules(history) == rules


@pytest.mark.parametrize(
    ("request_", "what", "at", "rules"),
    [
        ("start", "503", 10.0, [CARRIED]),
        ("start", "ReadError('')", 10.0, [CARRIED]),
        ("status", "RemoteProtocolError('')", 10.0, [CARRIED]),
        ("follow", "503", 10.0, [CARRIED]),
        ("start", "409", 10.0, []),
        ("start", "ConnectError('')", 10.0, []),
        ("start", "ReadTimeout('')", 10.0, []),
        ("follow", "RemoteProtocolError('')", 10.0, []),
        ("cancel", "503", 10.0, []),
        # Its process has just died.
        ("start", "ReadError('')", 20.5, []),
    ],
)
def test_a_failure_that_the_sdk_does_not_get_over_is_found(request_, what, at, rules):
    history = sound()
    history.deaths = [(20.0, 22.0)]
    history.asked[0].failures = [Failure(request_, what, at)]
    assert broken_rules(history) == rules


def test_an_undisturbed_stream_is_complete():
    history = sound()
    asked = Asked("plain", "undisturbed", "another", "plain", [0], {RUN})
    asked.hear("success")
    asked.events = [token(0, 0, 0), token(0, 0, 1), END]
    asked.stream_ended = True
    history.asked.append(asked)
    assert broken_rules(history) == []
    del asked.events[1]
    assert broken_rules(history) == [PLAIN]
    asked.stream_ended = False
    assert broken_rules(history) == [PLAIN]


@pytest.mark.parametrize(("told_at", "rules"), [(50.0, [TERMINAL, TURNS]), (99.5, []), (100.3, [])])
def test_an_asynchronous_standby_may_lack_the_last_moment_and_nothing_before(told_at, rules):
    """It got nothing any more from second 99 on, and its primary died at 100."""
    history = sound()
    history.asynchronous, history.promotions = True, [(99.0, 100.0)]
    asked = history.asked[0]
    asked.kind, asked.accepted_at, asked.told_at, asked.shown_at = (
        "wait",
        told_at,
        [told_at],
        [told_at],
    )
    history.final.runs.pop(0)
    history.final.logs[THREAD] = history.final.logs[THREAD][2:]
    history.final.checkpoints = history.final.checkpoints[3:]
    history.final.checkpoints[0] = replace(history.final.checkpoints[0], parent_id=None)
    assert sorted(broken_rules(history)) == sorted(rules)
    assert bool(lost(history)) == (not rules)


def test_a_stream_that_meets_such_a_promotion_may_have_lost_its_last_events():
    history = sound()
    history.asked[0].events.pop(3)
    assert broken_rules(history) == [STREAMS]
    history.promotions = [(104.0, 105.0)]
    assert broken_rules(history) == [STREAMS]
    history.asynchronous = True
    assert broken_rules(history) == []
    history.promotions = [(149.0, 150.0)]
    assert broken_rules(history) == [STREAMS]


@pytest.mark.parametrize(
    ("told", "rules"),
    [
        ({RUN: {"success"}}, []),
        ({}, [WEBHOOKS]),
        ({RUN: {"success", "error"}}, [WEBHOOKS]),
        ({OTHER: {"success"}}, [WEBHOOKS]),
    ],
)
def test_a_receiver_that_is_told_nothing_or_something_else_is_found(told, rules):
    history = sound()
    history.final.runs[0] = replace(history.final.runs[0], has_webhook=True)
    history.final.told_webhooks = told
    assert broken_rules(history) == rules
    history.asynchronous = True
    assert broken_rules(history) == []
