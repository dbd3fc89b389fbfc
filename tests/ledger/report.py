"""The table of the ledger."""

from tests.ledger.judge import Verdict, judged, pauses
from tests.ledger.site import Outcome

_SHOWN = 10


def verdicts(outcome: Outcome) -> dict[str, Verdict]:
    return judged(outcome.runs, outcome.ledger)


def table(outcome: Outcome) -> str:
    found = verdicts(outcome)
    waits = pauses(outcome.ledger)
    lines = [
        f"seed {outcome.plan.seed}: {outcome.kills} kills in {outcome.seconds:.0f} s,"
        f" {len(outcome.runs)} runs of {outcome.plan.steps} steps",
        f"{'durability':<12}{'runs':>6}{'nodes begun':>13}{'again':>7}{'ended before':>14}"
        f"{'checkpoints':>13}{'violations':>12}",
    ]
    lines += [
        f"{name:<12}{one.runs:>6}{one.begun:>13}{one.again:>7}{one.ended_again:>14}"
        f"{one.checkpoints:>13}{len(one.violations):>12}"
        for name, one in sorted(found.items())
    ]
    if waits:
        p50, p99 = (waits[round(part * (len(waits) - 1))] for part in (0.5, 0.99))
        lines.append(
            f"from the last line of an attempt to the next attempt's first: {len(waits)} times,"
            f" p50 {p50:.2f} s, p99 {p99:.2f} s, longest {waits[-1]:.2f} s"
        )
    for one in found.values():
        lines += [f"! {sentence}" for sentence in one.violations[:_SHOWN]]
    return "\n".join(lines)
