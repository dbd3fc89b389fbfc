"""What must hold between the ledger and the database, whenever processes were killed."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.ledger.books import Line, Run

#: Once a step has begun, the checkpoint of the step before is committed.
COMMITTED_FIRST = "sync"


@dataclass(slots=True)
class Verdict:
    """Of all runs of one durability.

    :ivar begun: nodes that have begun; ``again`` of them had begun before.
    :ivar ended_again: nodes that began again although they had ended.
    :ivar violations: sentences.
    """

    runs: int = 0
    begun: int = 0
    again: int = 0
    ended_again: int = 0
    checkpoints: int = 0
    violations: list[str] = field(default_factory=list)


def judged(runs: Iterable[Run], ledger: Sequence[Line]) -> dict[str, Verdict]:
    """By durability."""
    lines: dict[str, list[Line]] = defaultdict(list)
    for line in ledger:
        lines[line.run_id].append(line)
    verdicts: dict[str, Verdict] = defaultdict(Verdict)
    for run in runs:
        verdict = verdicts[run.durability]
        verdict.runs += 1
        verdict.checkpoints += len(run.checkpoints)
        _count(verdict, lines[run.run_id])
        verdict.violations += [
            f"run {run.run_id}: {sentence}"
            for sentence in (
                *_unlike_its_steps(run),
                *_checkpoints_without_writes(run),
                *(_finished_steps_begun_again(run, lines[run.run_id])),
            )
        ]
    return dict(verdicts)


def pauses(ledger: Sequence[Line]) -> list[float]:
    """Seconds from the last line of an attempt to the first of the next one of its run, sorted."""
    last: dict[str, Line] = {}
    found = []
    for line in ledger:
        before = last.get(line.run_id)
        if before is not None and before.attempt != line.attempt:
            found.append(line.at - before.at)
        last[line.run_id] = line
    return sorted(found)


def _count(verdict: Verdict, lines: Sequence[Line]) -> None:
    begun: set[tuple[int, str]] = set()
    ended: set[tuple[int, str]] = set()
    for line in lines:
        place = (line.step, line.node)
        if line.event == "ended":
            ended.add(place)
            continue
        verdict.begun += 1
        verdict.again += place in begun
        verdict.ended_again += place in ended
        begun.add(place)


def _unlike_its_steps(run: Run) -> Iterable[str]:
    """However often a run was taken up again, its values have each step once, in order."""
    if run.status != "success":
        yield f"has not succeeded: {run.status}"
        return
    for node, steps in (("left", run.left), ("right", run.right)):
        if steps != list(range(run.steps)):
            yield f"{node} has the steps {steps}"


def _checkpoints_without_writes(run: Run) -> Iterable[str]:
    """Each checkpoint but the last of a run follows from writes that are stored too.

    With the durability ``exit`` only the last one is stored, without the writes before it.
    """
    if run.durability == "exit":
        return
    by_id = {one.checkpoint_id: one for one in run.checkpoints}
    for one in run.checkpoints:
        if one.parent_id is None:
            continue
        parent = by_id.get(one.parent_id)
        if parent is None:
            yield f"checkpoint {one.checkpoint_id} follows {one.parent_id}, which is lost"
        elif not parent.wrote or len(parent.wrote & {"left", "right"}) == 1:
            yield (
                f"checkpoint {one.checkpoint_id} follows {parent.checkpoint_id}, whose tasks wrote"
                f" only {sorted(parent.wrote)}"
            )


def _finished_steps_begun_again(run: Run, lines: Sequence[Line]) -> Iterable[str]:
    """A step is finished when the next one begins; under ``sync`` that is committed before."""
    if run.durability != COMMITTED_FIRST:
        return
    furthest = -1
    for line in lines:
        if line.event == "begun":
            if line.step < furthest:
                yield f"{line.node} began step {line.step} again after step {furthest} had begun"
            furthest = max(furthest, line.step)
