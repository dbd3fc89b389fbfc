"""The dashboards: written from the source, whole, and asking only for what there is."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.source.files import BOARDS, FOLDERS, texts
from tests.deploy.expressions import Expression, of_dashboards, selectors
from tests.docs.test_metrics import documented_metrics
from tests.support.sources import ROOT

Panel = dict[str, Any]

#: The labels that a dashboard's variables choose.
CHOSEN = {"namespace", "job", "pod", "instance"}
#: Prometheus makes it itself, for each target.
OF_PROMETHEUS = {"up"}
#: Each pod tells these of the one database that all share.
OF_THE_DATABASE = re.compile(
    r"headrace_(runs_pending|runs_unserved|crons_overdue|webhooks_overdue|oldest_\w+_seconds"
    r"|table_\w+|largest_thread_bytes)"
)
#: A counter with labels begins with its first count, which is then its increase.
_FIRST_COUNT = re.compile(
    r"\((\w+{[^}]*}) unless last_over_time\(\1\[1h\] offset \$__rate_interval\)\) or "
    r"(?=increase\(\1\[)"
)
DOCS = "https://github.com/headrace/headrace/blob/main/docs/"

boards = pytest.mark.parametrize("name", sorted(texts()))


def board(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDERS[0] / name).read_text())
    return found


def panels(name: str) -> list[Panel]:
    return [panel for panel in board(name)["panels"] if panel["type"] != "row"]


def asked(name: str) -> list[Expression]:
    return [expression for expression in of_dashboards() if expression.source == name]


def folded_by(promql: str) -> Iterator[tuple[str, str]]:
    """Each series that is read, and what folds it first: ``sum``, ``max``, or nothing."""
    above: list[str] = []
    found: list[tuple[str, str]] = []

    def enter(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.AggregateExpr):
            above.append(str(node.op))
        elif isinstance(node, promql_parser.VectorSelector):
            found.append((str(node.name), above[-1] if above else ""))

    def leave(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.AggregateExpr):
            above.pop()

    promql_parser.walk(promql_parser.parse(promql), enter, leave)
    yield from found


def test_the_files_are_what_the_source_says() -> None:
    for folder in FOLDERS:
        there = {path.name: path.read_text() for path in folder.iterdir()}
        assert there == texts(), "run: make manifests"


@boards
def test_grafana_would_lose_nothing(name: str) -> None:
    """Reading drops keys that Grafana does not know."""
    register_default_plugins()
    read = models.Dashboard.from_json(board(name))
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == board(name)


def test_no_two_are_called_alike() -> None:
    for key in ("uid", "title"):
        names = [board(name)[key] for name in texts()]
        assert len(set(names)) == len(names) == len(BOARDS) == 7


@boards
def test_every_panel_says_what_to_look_at(name: str) -> None:
    titles = Counter((panel["title"], panel["type"]) for panel in panels(name))
    assert max(titles.values()) == 1
    for panel in panels(name):
        text = panel["description"]
        assert len(text) > 40, panel["title"]
        assert text.endswith("."), panel["title"]


@boards
def test_every_panel_has_a_unit_and_a_name_for_each_line(name: str) -> None:
    for panel in panels(name):
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends)) == len(legends), panel["title"]
        for target in panel["targets"]:
            kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept, panel["title"]


@boards
def test_panels_lie_beside_one_another(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board(name)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (place["x"] + column, place["y"] + line)
            for column in range(place["w"])
            for line in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in board(name)["panels"]}) == len(board(name)["panels"])


@boards
def test_the_reader_chooses_source_and_pods(name: str) -> None:
    variables = {variable["name"]: variable for variable in board(name)["templating"]["list"]}
    assert set(variables) == {"datasource", *CHOSEN}
    everywhere = json.dumps(board(name))
    assert set(re.findall(r'"uid": "(?!headrace-)([^"]*)"', everywhere)) == {"$datasource"}
    for label in CHOSEN - {"instance"}:
        assert (variables[label]["includeAll"], variables[label]["allValue"]) == (True, ".*")
    assert variables["instance"]["includeAll"] == (name != "one-pod.json")


@boards
def test_it_leads_to_the_others_and_to_the_runbooks(name: str) -> None:
    links = board(name)["links"]
    (others,) = [link for link in links if link["type"] == "dashboards"]
    assert set(others["tags"]) <= set(board(name)["tags"])
    assert others["includeVars"]
    assert others["keepTime"]
    of_panels = [link for panel in panels(name) for link in panel.get("links", [])]
    assert of_panels
    for link in [*links, *of_panels]:
        if link["type"] == "link":
            assert link["url"].startswith(DOCS)
            assert (ROOT / "docs" / link["url"].removeprefix(DOCS)).exists(), link["url"]


def test_the_pool_shows_the_extremes_beside_the_sum() -> None:
    asked = {
        name: {selector.metric for target in panel["targets"] for selector in _read(target)}
        for panel in panels("pool-and-postgres.json")
        for name in [panel["title"]]
    }
    assert any(
        {f"headrace_pool_waiting{end}" for end in ("", "_min", "_max")} == metrics
        for metrics in asked.values()
    )
    everything = set().union(*asked.values())
    for figure in ("available", "waiting", "leaked"):
        assert {f"headrace_pool_{figure}{end}" for end in ("", "_min", "_max")} <= everything
    assert {"headrace_pool_in_use_min", "headrace_pool_in_use_max"} <= everything


def _read(target: dict[str, str]) -> list[Any]:
    return selectors(Expression("", "", target["expr"]).filled())


@boards
def test_it_asks_for_metrics_and_labels_that_there_are(name: str) -> None:
    known = documented_metrics()
    for expression in asked(name):
        for selector in selectors(expression.filled()):
            if selector.metric not in OF_PROMETHEUS:
                metric = selector.metric if selector.metric in known else selector.family
                assert metric in known, f"{expression.name}: {selector.metric}"
                kind, labels = known[metric]
                assert (kind == "histogram") == (selector.metric != metric), expression.name
                assert selector.labels - CHOSEN <= labels, expression.name


@boards
def test_it_asks_for_the_pods_that_were_chosen(name: str) -> None:
    for expression in asked(name):
        for selector in selectors(expression.filled()):
            assert selector.labels >= CHOSEN, expression.name
        for label in CHOSEN:
            chosen = set(re.findall(rf'\b{label}[=!~]+"([^"]*)"', expression.text))
            assert chosen == {f"${label}"}, expression.name


@boards
def test_its_windows_follow_the_picture(name: str) -> None:
    """Counters are read through a window that Grafana fits to step and scrapes."""
    for expression in asked(name):
        text = _FIRST_COUNT.sub("", expression.text)
        windows = set(re.findall(r"(\w+)\([^()]*\[([^\]]+)\]", text))
        assert windows <= {
            ("rate", "$__rate_interval"),
            ("increase", "$__rate_interval"),
            ("increase", "$__range"),  # one figure for the whole picture
            ("changes", "$__rate_interval"),
            ("last_over_time", "1h"),
        }, expression.name
        counters = re.findall(r"headrace_\w+_(?:total|bucket|sum|count)\b", text)
        read = re.findall(r"(?:rate|increase)\(", text)
        assert len(counters) == len(read), expression.name


@boards
def test_figures_of_the_database_are_not_summed_over_pods(name: str) -> None:
    for expression in asked(name):
        for metric, folded in folded_by(expression.filled()):
            if OF_THE_DATABASE.fullmatch(metric):
                assert folded == "max", f"{expression.name}: {metric}"
