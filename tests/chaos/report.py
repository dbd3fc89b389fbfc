"""The table: what was done to the servers, what clients asked, and what the checker found."""

from collections import Counter
from itertools import pairwise

from tests.chaos.checker import lost
from tests.chaos.history import Entry, History
from tests.chaos.memory import MAX_GROWTH_BYTES, judged
from tests.chaos.runner import Outcome

_SHOWN = 5


def table(outcome: Outcome) -> str:
    plan, history = outcome.plan, outcome.history
    lines = [
        f"seed {plan.seed}, {plan.seconds:.0f} s of faults, {plan.pods} pods of"
        f" {plan.processes} processes, standby"
        f" {'synchronous' if plan.synchronous else 'asynchronous'},"
        f" leases of {plan.lease_seconds:g} s"
        + (f", without {plan.without}" if plan.without else ""),
        "",
        f"{'faults injected':<42}{sum(outcome.injected.values()):>8}",
    ]
    lines += [f"  {kind:<40}{count:>8}" for kind, count in outcome.injected.items()]
    lines += ["", f"{'clients':<18}{'asked':>8}{'accepted':>10}{'told':>8}{'cut':>8}"]
    for kind in dict.fromkeys(asked.kind for asked in history.asked):
        of_kind = [asked for asked in history.asked if asked.kind == kind]
        accepted = sum(asked.accepted for asked in of_kind)
        told = sum(bool(asked.told) for asked in of_kind)
        cut = sum(bool(asked.errors) for asked in of_kind)
        lines.append(f"  {kind:<16}{len(of_kind):>8}{accepted:>10}{told:>8}{cut:>8}")
    statuses = Counter(run.status for run in history.final.runs)
    moved = sum(run.attempt > 1 for run in history.final.runs)
    lines += [
        "",
        f"runs {len(history.final.runs)}: {dict(statuses)}; {moved} went on in another attempt"
        f" (longest pause {_longest_pause(history.final.logs):.1f} s)",
        *_streams(history),
        *_crons(history),
        *_memory(history),
        *([f"lost with a primary: {lost(history)} things"] if history.asynchronous else []),
        "seconds: " + ", ".join(f"{part} {took:.0f}" for part, took in outcome.seconds.items()),
        "",
        f"{'violations':<42}{outcome.found:>8}",
    ]
    lines += [f"  {rule:<56}{len(found):>4}" for rule, found in outcome.violations.items()]
    for rule, found in outcome.violations.items():
        lines += [f"  ! {rule}: {sentence}" for sentence in found[:_SHOWN]]
    lines += [f"  ? {sentence}" for sentence in outcome.unexpected]
    return "\n".join(lines)


def _streams(history: History) -> list[str]:
    """How much was looked at, and at how many indexes."""
    resumable = [one for one in history.asked if one.kind == "resumable" and one.stream_ended]
    events = sum(len(one.events) for one in resumable)
    joins = sum(one.joins for one in resumable)
    again = sum(len(one.replays) for one in resumable)
    plain = [one for one in history.asked if one.kind == "undisturbed"]
    complete = sum(one.stream_ended for one in plain)
    return [
        f"plain streams {len(plain)}, {complete} complete; resumable streams {len(resumable)} of"
        f" {events} events, joined elsewhere {joins} times, read again at {again} indexes"
    ]


def _crons(history: History) -> list[str]:
    firings = history.final.firings
    if not firings:
        return []
    latest = max(one.made_at - one.slot for one in firings)
    return [
        f"runs of crons {len(firings)}, of {len({one.cron_id for one in firings})} crons; the"
        f" latest was made {latest:.1f} s after its slot"
    ]


def _memory(history: History) -> list[str]:
    grown = sorted(judged(history.final.memory).values())
    if not grown:
        return []
    return [
        f"memory of {len(grown)} processes after warm-up: {_mib(grown[0])} to {_mib(grown[-1])} MiB"
        f" (at most {_mib(MAX_GROWTH_BYTES)})"
    ]


def _mib(size: float) -> str:
    return f"{size / (1 << 20):+.1f}"


def _longest_pause(logs: dict[str, list[Entry]]) -> float:
    """Between the last step of an attempt and the first of the next one of the same run."""
    longest = 0.0
    for log in logs.values():
        for before, after in pairwise(log):
            if before.run_id == after.run_id and before.attempt != after.attempt:
                longest = max(longest, after.at - before.at)
    return longest
