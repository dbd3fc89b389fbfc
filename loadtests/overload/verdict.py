"""What the rounds of an overload are held to, and how that is told."""

from collections.abc import Iterator, Sequence

from loadtests.measuring.figures import Judged, Target, judged_lines, percentile, spread
from loadtests.overload.rounds import Round, Rows

TARGETS = {
    "goodput": Target(0.8, 1.0),
    "livez": Target(100.0, 100.0, lower_is_better=True),
    "recovery": Target(10.0, 10.0, lower_is_better=True),
    "none": Target(0.0, 0.0, lower_is_better=True),
}


def judged(rounds: Sequence[Round], rows: Rows) -> list[Judged]:
    faults = sum(sum(one.faults.values()) for round_ in rounds for one in round_.phases)
    livez = [percentile(one.crowd.livez_ms or [1e9], 0.99) for one in rounds]
    return [
        Judged(
            "goodput of the crowd, of peak",
            spread([one.share_of_peak for one in rounds]),
            TARGETS["goodput"],
        ),
        Judged("/livez p99 beside the crowd, ms", spread(livez), TARGETS["livez"]),
        Judged(
            "seconds until latency is normal",
            spread([one.recovery_seconds for one in rounds]),
            TARGETS["recovery"],
        ),
        *(
            Judged(label, spread([float(count)]), TARGETS["none"])
            for label, count in [
                ("answers that must not be", faults),
                ("runs lost", rows.lost),
                ("runs that did not end", rows.unfinished),
                ("runs that failed", rows.failed),
                ("leases lost", rows.lease_losses),
            ]
        ),
    ]


def lines_of(rounds: Sequence[Round], rows: Rows, table: Sequence[Judged]) -> Iterator[str]:
    yield f"{'clients':>8}{'runs/s':>9}{'refused/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'livez p99':>11}"
    for one in (phase for round_ in rounds for phase in round_.phases):
        told = one.plain()
        yield (
            f"{one.clients:>8}{told['goodput']:>9}{told['refused_per_second']:>11}"
            f"{told['latency_ms']['p50']:>9}{told['latency_ms']['p99']:>9}"
            f"{told['livez_p99_ms']:>11}"
            + "".join(f"  {count} x {what}" for what, count in one.faults.items())
        )
    yield ""
    yield from judged_lines(table)
    yield f"rows: {rows.by_status}, answered: {rows.accepted}; refusals: {rows.refusals}"
