"""All chapters on both servers; what differs is listed with a reason, or told."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.clients.known import KNOWN
from tests.clients.replay import Difference
from tests.clients.side_by_side.chapters import ALONE, CHAPTERS, FIRST
from tests.clients.side_by_side.listed import LISTED
from tests.clients.side_by_side.play import Side, Step, differences

#: Chapters that are played at once: the official server lets each run wait for its next look.
_AT_ONCE = 4


@dataclass
class Report:
    """What was played and found."""

    steps: int = 0
    #: Steps that look at what an earlier, differing one has left.
    passed_over: int = 0
    #: Steps that differ somewhere, each difference with a reason.
    differing: int = 0
    unlisted: list[tuple[str, Difference]] = field(default_factory=list)
    #: By the place in LISTED, how often it was the reason.
    used: set[int] = field(default_factory=set)

    def text(self) -> str:
        lines = [f"{where}\n    {difference}" for where, difference in self.unlisted]
        lines.append(
            f"{self.steps} steps; {self.differing} differ with a reason,"
            f" {len(self.unlisted)} differences without one;"
            f" {self.passed_over} not compared, as they follow from one that differs"
        )
        return "\n".join(lines)


async def compare(official: str, ours: str, chapters: Sequence[str] = ()) -> Report:
    """Play the chapters, all of them by default, on the servers at two addresses."""
    report = Report()
    places = asyncio.Semaphore(_AT_ONCE)

    async def play(name: str) -> None:
        async with places:
            await _play(name, CHAPTERS[name](), official, ours, report)

    wanted = [name for name in CHAPTERS if not chapters or name in chapters]
    for name in wanted:
        if name in FIRST:
            await play(name)
    await asyncio.gather(*[play(name) for name in wanted if name not in ALONE | FIRST])
    for name in wanted:
        if name in ALONE:
            await play(name)
    return report


async def _play(
    chapter: str, steps: Sequence[Step], official: str, ours: str, report: Report
) -> None:
    sides = Side(official), Side(ours)
    apart: set[str] = set()
    try:
        for step in steps:
            first, second = await asyncio.gather(*[side.play(step) for side in sides])
            where = f"{chapter}: {step.title}"
            found = list(differences(first, second))
            if any(difference.where == "status" for difference in found):
                apart.add(step.title)
            if step.after in apart:
                report.steps += 1
                report.passed_over += 1
                apart.add(step.title)
                continue
            reasons = [_reason(where, difference, report) for difference in found]
            report.steps += 1
            report.differing += bool(found) and all(reasons)
            report.unlisted += [
                (where, difference)
                for difference, reason in zip(found, reasons, strict=True)
                if not reason
            ]
    finally:
        for side in sides:
            await side.close()


def _reason(where: str, difference: Difference, report: Report) -> bool:
    listed = [number for number, entry in enumerate(LISTED) if entry.covers(where, difference)]
    report.used.update(listed)
    return bool(listed) or any(entry.covers(where, difference) for entry in KNOWN)
