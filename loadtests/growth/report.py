"""Tables, charts and JSON of ``make growth``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loadtests.measuring.charts import Line, Lines, lines
from loadtests.measuring.figures import Judged, Target
from loadtests.measuring.results import RESULTS, write_result

_ROOT = Path(__file__).parents[2]
_PARTS = {
    "chat": "POST /chat/stream, built-in graph",
    "chat_whole_answer": "POST /chat, the answer has all messages",
    "messages_state": "runs/stream (updates), MessagesState",
}
_BESIDE = {
    "runs_stored": ("by_runs", "a run, by runs stored"),
    "queue_length": ("by_pending", "a run, by runs pending behind a busy thread"),
    "open_streams": ("by_streams", "a run, by streams open"),
}
_TURN = Target(floor=1.1, goal=1.05, lower_is_better=True)


def judged(found: Mapping[str, Any]) -> list[Judged]:
    """The floors of what was measured."""
    rows = []
    for part in _PARTS:
        for turns, cost in found.get(part, {}).get("by_turns", {}).items():
            target = _TURN if (part, turns) == ("chat", "10000") else None
            rows.append(Judged(f"{part}, turn {turns}, CPU against turn 10", cost["ratio"], target))
    return rows


def write(found: Mapping[str, Any], folder: Path | None, *, short: bool) -> Iterator[str]:
    """Write JSON and charts, and yield the tables. Short forms write none without a folder."""
    if folder is not None or not short:
        write_result("growth", found, folder=folder or RESULTS)
        chart = lines("What a turn or a run costs beside what is there", list(_panels(found)))
        place = folder or _ROOT / "docs"
        (place / "growth.svg").write_text(chart)
    for part, title in _PARTS.items():
        if part not in found:
            continue
        yield f"{title}"
        yield "   turns  server ms   PG ms   p50 ms   page kB  answer kB"
        for turns, cost in found[part]["by_turns"].items():
            yield (
                f"{int(turns):>8,}{cost['server_ms']:>11.2f}{cost['postgres_ms']:>8.2f}"
                f"{cost['p50_ms']:>9.1f}{cost['page_kb']:>10,.0f}{cost['answer_kb']:>11,.1f}"
            )
    for part, (key, title) in _BESIDE.items():
        if part in found:
            yield title
            yield "    rows  server ms   PG ms   p50 ms   page kB   PG ms not analyzed"
            for count, cost in found[part][key].items():
                stale = cost.get("not_analyzed", cost)
                yield (
                    f"{int(count):>9,}{cost['server_ms']:>10.2f}{cost['postgres_ms']:>8.2f}"
                    f"{cost['p50_ms']:>9.1f}{cost['page_kb']:>10,.0f}{stale['postgres_ms']:>12.2f}"
                )
    for table, size in found.get("runs_stored", {}).get("bytes_per_run", {}).items():
        yield f"{table:20}{size:>10,.0f} bytes a run"


def _panels(found: Mapping[str, Any]) -> Iterator[Lines]:
    for part, title in _PARTS.items():
        if part in found:
            yield _panel(title, "turns", found[part]["by_turns"])
    for part, (key, title) in _BESIDE.items():
        if part in found:
            yield _panel(title, key.removeprefix("by_"), found[part][key])


def _panel(title: str, counted: str, costs: Mapping[str, Mapping[str, float]]) -> Lines:
    drawn = [
        Line(label, [(float(count), cost[name]) for count, cost in costs.items()])
        for label, name in (("server", "server_ms"), ("Postgres", "postgres_ms"))
    ]
    return Lines(title, drawn, counted, "processor milliseconds")
