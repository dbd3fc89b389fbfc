"""docs/metrics.md names every metric and every log event, and no other."""

import ast
import re
from collections import defaultdict
from pathlib import Path

from headrace.observability.metrics import Metrics
from tests.support.exposition import Exposition
from tests.support.measured import board_with, observe_one_of_each
from tests.support.sources import calls, modules, page

_LEVEL_OF = {"exception": "error", "critical": "error"}
_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below ``heading``, without its head."""
    section = page("metrics.md").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def documented_metrics() -> dict[str, tuple[str, set[str]]]:
    """Name to type and labels."""
    return {
        name: (kind, set(labels.split(", ")) - {""})
        for names, kind, labels, *_ in rows("Counters and histograms") + rows("Live gauges")
        for name in re.findall(r"`(\w+)`", names)
    }


def exposed_metrics() -> dict[str, tuple[str, set[str]]]:
    metrics = Metrics(board_with(), multiprocess_dir=Path(__file__).parent)
    observe_one_of_each(metrics)
    families = Exposition(metrics.render().decode()).families
    return {
        name: (family.kind, family.labels)
        for name, family in families.items()
        if not name.endswith("_created")
    }


def logged_events() -> dict[str, set[str]]:
    """Event to the levels it is logged at; the access log chooses its method first."""
    events = defaultdict(set)
    for module, call in calls():
        match call.func:
            case ast.Attribute(value=ast.Name(id="_log"), attr=method) if method in _METHODS:
                level = _LEVEL_OF.get(method, method)
            case ast.Name(id="log"):
                level = "info"
            case ast.Attribute(attr="repeat"):
                (event,) = [word.value for word in call.keywords if word.arg == "skipped_event"]
                assert isinstance(event, ast.Constant), f"{module}:{call.lineno}: name the event"
                events[str(event.value)].add("warning")
                continue
            case _:
                continue
        event = call.args[0]
        assert isinstance(event, ast.Constant), f"{module}:{call.lineno}: name the event here"
        events[str(event.value)].add(level)
    return events


def test_every_metric_stands_in_the_page_and_no_other() -> None:
    assert documented_metrics() == exposed_metrics()


def test_every_event_stands_in_the_page_and_no_other() -> None:
    documented = {
        event.strip("`"): set(level.split(", ")) for event, level, _ in rows("Log events")
    }
    assert documented == logged_events()


def test_events_are_named_in_snake_case() -> None:
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", event) for event in logged_events())


def test_every_logger_has_the_name_that_this_test_looks_for() -> None:
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and "get_logger(" in ast.unparse(node.value):
                assert ast.unparse(node.targets[0]) == "_log", f"{module}:{node.lineno}"


def test_rows_stand_in_order_and_once() -> None:
    events = [row[0].strip("`") for row in rows("Log events")]
    assert events == sorted(set(events))
