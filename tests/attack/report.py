"""The table, for people and for programs."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.attack.judge import Facts, let_through, p99

_BEGIN, _END = "<!-- table -->", "<!-- end of table -->"
_SHOWN = 8
_HEAD = (
    "| row | what | tried | refused | absorbed | neighbour's p99, quiet | under attack"
    " | most memory | replaced | let through |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def summary(facts: Facts) -> dict[str, Any]:
    found = let_through(facts)
    return {
        "row": facts.number,
        "what": facts.what,
        "tried": facts.tally.tried,
        "refused": facts.tally.refused,
        "absorbed": max(0, facts.tally.absorbed),
        "p99_before_ms": _ms(facts, before=True),
        "p99_ms": _ms(facts, before=False),
        "memory_mb": round(facts.most_memory / 1e6),
        "replaced": facts.restarts,
        "health_ms": round(facts.slowest_health * 1000),
        "let_through": sum(found.values()),
        "found": dict(found.most_common(_SHOWN)),
        "notes": facts.tally.notes,
    }


def _ms(facts: Facts, *, before: bool) -> int | None:
    calls = facts.before if before else facts.during
    return round(p99(calls) * 1000) if calls else None


def line(one: dict[str, Any]) -> str:
    """A row of the table."""
    return (
        f"| {one['row']} | {one['what']} | {one['tried']:,} | {one['refused']:,}"
        f" | {one['absorbed']:,} | {one['p99_before_ms']} ms | {one['p99_ms']} ms"
        f" | {one['memory_mb']} MB | {one['replaced']} | {one['let_through']} |"
    )


def told(one: dict[str, Any]) -> str:
    """A row and what was found, for the console."""
    found = [f"    ! {count} x {sentence}" for sentence, count in one["found"].items()]
    return "\n".join([line(one), *found, *(f"    . {note}" for note in one["notes"])])


def table(summaries: Sequence[dict[str, Any]]) -> str:
    return "\n".join([_HEAD, *(line(one) for one in summaries)])


def keep(summaries: Sequence[dict[str, Any]], results: Path, page: Path) -> None:
    """Write the results, and the table into the page; rows that were not attacked stay."""
    before = json.loads(results.read_text()) if results.exists() else []
    merged = {one["row"]: one for one in [*before, *summaries]}
    ordered = [merged[number] for number in sorted(merged)]
    results.write_text(json.dumps(ordered, indent=1) + "\n")
    pattern = re.compile(f"{_BEGIN}.*{_END}", re.DOTALL)
    page.write_text(pattern.sub(lambda _: f"{_BEGIN}\n{table(ordered)}\n{_END}", page.read_text()))
