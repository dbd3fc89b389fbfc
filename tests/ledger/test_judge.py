"""Each rule of the ledger finds what breaks it, and nothing else."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.ledger.books import Checkpoint, Line, Run
from tests.ledger.judge import judged, pauses

BOTH = frozenset({"left", "right"})


def lines(*steps: tuple[int, int, str, str]) -> list[Line]:
    return [
        Line(event, "r", attempt, step, node, float(at))
        for at, (attempt, step, node, event) in enumerate(steps)
    ]


def run(durability: str = "sync", **more: object) -> Run:
    chain = [
        Checkpoint("1", None, frozenset({"branch:to:left"})),
        Checkpoint("2", "1", BOTH),
        Checkpoint("3", "2"),
    ]
    made = Run("r", durability, 2, "t", "success", [0, 1], [0, 1], chain)
    return replace(made, **more)  # type: ignore[arg-type]


def violations(made: Run, ledger: Sequence[Line] = ()) -> list[str]:
    return judged([made], ledger)[made.durability].violations


KILLED_IN_STEP_0 = lines(
    (1, 0, "left", "begun"),
    (1, 0, "right", "begun"),
    (1, 0, "right", "ended"),
    (2, 0, "left", "begun"),
    (2, 0, "left", "ended"),
    (2, 1, "left", "begun"),
)


def test_a_run_that_was_killed_in_a_step_breaks_no_rule():
    verdict = judged([run()], KILLED_IN_STEP_0)["sync"]
    assert verdict.violations == []
    assert (verdict.begun, verdict.again, verdict.ended_again) == (4, 1, 0)
    assert pauses(KILLED_IN_STEP_0) == [1.0]


def test_a_node_that_had_ended_and_begins_again_is_counted():
    again = [*KILLED_IN_STEP_0[:3], replace(KILLED_IN_STEP_0[1], attempt=2)]
    assert judged([run()], again)["sync"].ended_again == 1


@pytest.mark.parametrize(("durability", "found"), [("sync", 1), ("async", 0), ("exit", 0)])
def test_a_finished_step_that_begins_again_breaks_sync(durability, found):
    ledger = lines((1, 0, "left", "begun"), (1, 1, "left", "begun"), (2, 0, "left", "begun"))
    assert len(violations(run(durability), ledger)) == found


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"status": "error"}, "has not succeeded"),
        ({"left": [0, 0, 1]}, "left has the steps"),
        ({"right": [0]}, "right has the steps"),
    ],
)
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_values_have_each_step_once(durability, change, sentence):
    (found,) = violations(run(durability, **change))
    assert sentence in found


@pytest.mark.parametrize(
    ("wrote", "found"),
    [(BOTH, 0), (frozenset(), 1), (frozenset({"left"}), 1), (frozenset({"branch:to:left"}), 0)],
)
def test_no_checkpoint_is_without_the_writes_that_it_follows_from(wrote, found):
    chain = [Checkpoint("1", None, wrote), Checkpoint("2", "1")]
    assert len(violations(run("async", checkpoints=chain))) == found
    assert violations(run("exit", checkpoints=chain)) == []


def test_no_checkpoint_follows_one_that_is_lost():
    (found,) = violations(run(checkpoints=[Checkpoint("2", "1")]))
    assert "which is lost" in found
