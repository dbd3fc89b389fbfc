"""The pictures in docs/dashboards/: of the present dashboards, small, drawn from what was asked."""

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.deploy.expressions import DASHBOARDS
from tests.deploy.pictures.answers import Answers, Period, Prometheus, Series
from tests.deploy.pictures.page import DRAWN, drawn, picture
from tests.deploy.pictures.units import above, shown
from tests.support.processes import free_port
from tests.support.sources import ROOT, page
from tests.support.tools import require_tool
from tests.support.waiting import wait_until

PICTURES = ROOT / "docs" / "dashboards"
TOOLS = ("prometheus", "promtool")
_SVG = "{http://www.w3.org/2000/svg}"
_MOST_BYTES = 150_000
_HOUR = Period(1_700_000_000.0, 1_700_003_600.0)

dashboards = pytest.mark.parametrize(
    "path", sorted(DASHBOARDS.glob("*.json")), ids=lambda path: path.stem
)


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter(f"{_SVG}text")]


def panel(kind: str, *targets: str, unit: str = "short", **defaults: Any) -> dict[str, Any]:
    steps = [{"value": None, "color": "green"}, {"value": 10, "color": "red"}]
    return {
        "type": kind,
        "title": "Waiting",
        "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8},
        "options": {"colorMode": "background"},
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": {"steps": steps}, **defaults},
        },
        "targets": [{"expr": target, "legendFormat": "{{pod}}"} for target in targets],
    }


def board(*panels: dict[str, Any]) -> dict[str, Any]:
    changed = {"name": "starts", "expr": "changes(started[1m]) > 0"}
    return {
        "title": "A & B",
        "description": "What?",
        "panels": list(panels),
        "annotations": {"list": [changed]},
    }


def line(name: str, *values: float) -> Series:
    return Series(name, tuple((_HOUR.start + 60 * n, value) for n, value in enumerate(values)))


def paths(svg: str) -> list[str]:
    """The lines and areas: all that has a colour of a series."""
    found = ElementTree.fromstring(svg).iter(f"{_SVG}path")
    return [node.get("d", "") for node in found if node.get("class") == "l"]


@dashboards
def test_the_picture_is_of_the_present_dashboard(path: Path) -> None:
    svg = (PICTURES / f"{path.stem}.svg").read_text()
    said = texts(svg)
    for one in json.loads(path.read_text())["panels"]:
        assert one["title"] in said, "run: python -m tests.deploy.pictures"
    assert any(words.startswith(DRAWN) for words in said)


@dashboards
def test_the_picture_is_small_and_asks_for_nothing(path: Path) -> None:
    svg = (PICTURES / f"{path.stem}.svg").read_text()
    assert len(svg.encode()) < _MOST_BYTES
    assert "prefers-color-scheme:dark" in svg
    assert not re.search(r"href|url\(|<script|<image|@import", svg)


@dashboards
def test_the_page_shows_it_and_says_what_it_answers(path: Path) -> None:
    text = page("dashboards.md")
    assert f"](dashboards/{path.stem}.svg)" in text
    assert json.loads(path.read_text())["title"].removeprefix("headrace / ") in text


def test_present_values_have_the_colour_of_their_level() -> None:
    stat = panel("stat", "a")
    well, ill = (
        drawn(board(stat), [(stat, [line("pod", value)])], _HOUR, []) for value in (9.0, 10.0)
    )
    assert "9" in texts(well)
    assert "#2f8a43" in well
    assert "#c4372e" not in well.split("</style>")[1]
    assert "#c4372e" in ill.split("</style>")[1]


def test_a_value_may_be_said_in_words() -> None:
    words = {"options": {"0": {"text": "lost", "color": "red"}}}
    stat = panel("stat", "a", mappings=[words])
    assert "lost" in texts(drawn(board(stat), [(stat, [line("pod", 0.0)])], _HOUR, []))


def test_a_graph_has_axes_with_units_and_a_legend() -> None:
    graph = panel("timeseries", "a", unit="s")
    svg = drawn(board(graph), [(graph, [line("p99", 0.1, 0.35)])], _HOUR, [])
    said = texts(svg)
    assert {"0 s", "250 ms", "500 ms", "p99", "350 ms (max 350 ms)"} <= set(said)
    assert {"22:13", "22:43", "23:13"} <= set(said)


def test_a_gap_in_the_data_is_a_gap_in_the_line() -> None:
    graph = panel("timeseries", "a")
    whole = line("pod", 1.0, 2.0, 3.0, 4.0)
    broken = Series("pod", (*whole.points[:2], (_HOUR.end - 60, 3.0), (_HOUR.end, 4.0)))
    assert len(paths(drawn(board(graph), [(graph, [whole])], _HOUR, []))) == 1
    assert len(paths(drawn(board(graph), [(graph, [broken])], _HOUR, []))) == 2


def test_stacked_lines_stand_on_one_another() -> None:
    graph = panel("timeseries", "a", custom={"stacking": {"mode": "normal"}})
    svg = drawn(board(graph), [(graph, [line("2xx", 3.0, 3.0), line("5xx", 2.0, 2.0)])], _HOUR, [])
    assert "5" in texts(svg)  # the axis goes to the sum
    upper, lower = (int(d.split("h")[0].split()[1]) for d in paths(svg))
    assert upper < lower


def test_more_lines_than_fit_are_counted() -> None:
    graph = panel("timeseries", "a")
    lines = [line(f"table {number}", float(number)) for number in range(9)]
    said = texts(drawn(board(graph), [(graph, lines)], _HOUR, []))
    assert "and 3 more" in said
    assert "table 8" in said
    assert "table 0" not in said


def test_starts_of_processes_are_marked_once() -> None:
    graph = panel("timeseries", "a")
    starts = [_HOUR.start + 30 * n for n in range(3)] + [_HOUR.start + 1800]
    svg = drawn(board(graph), [(graph, [line("pod", 1.0)])], _HOUR, starts)
    assert svg.count('class="a"') == 2


def test_nothing_is_said_in_the_panels_own_words() -> None:
    graph, events = panel("timeseries", "a"), panel("timeseries", "a", noValue="nothing happened")
    said = texts(drawn(board(graph, events), [(graph, []), (events, [])], _HOUR, []))
    assert "no data" in said
    assert "nothing happened" in said


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "s", "0 s"),
        (0.00046, "s", "460 µs"),
        (90, "s", "1.5 min"),
        (1536, "bytes", "1.5 KiB"),
        (0, "binBps", "0 B/s"),
        (12.34, "reqps", "12.3 req/s"),
        (0.5, "cps", "0.5/s"),
        (0.042, "percentunit", "4.2 %"),
        (12_000, "short", "12k"),
    ],
)
def test_units(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text


@pytest.mark.parametrize(
    ("value", "unit", "top"),
    [
        (0, "short", 1),
        (0.3, "s", 0.5),
        (41 * 60, "s", 3600),
        (7 * 86400, "s", 10 * 86400),
        (700, "bytes", 1000),
        (150 * 1024**2, "bytes", 200 * 1024**2),
        (0.9, "percentunit", 1),
        (1234, "short", 2000),
    ],
)
def test_axes_end_at_round_numbers(value: float, unit: str, top: float) -> None:
    assert above(value, unit) == pytest.approx(top)


def test_a_line_may_have_levels_of_its_own() -> None:
    stat = panel("stat", "a")
    own = {"steps": [{"value": None, "color": "green"}, {"value": 50, "color": "red"}]}
    matched = {"id": "byName", "options": "cut"}
    stat["fieldConfig"]["overrides"] = [
        {"matcher": matched, "properties": [{"id": "thresholds", "value": own}]}
    ]
    colours = [
        drawn(board(stat), [(stat, [line(name, 20.0)])], _HOUR, []).split("</style>")[1]
        for name in ("cut", "other")
    ]
    assert ["#c4372e" in colour for colour in colours] == [False, True]


def test_every_unit_of_the_dashboards_can_be_shown() -> None:
    for path in DASHBOARDS.glob("*.json"):
        for one in json.loads(path.read_text())["panels"]:
            if one["type"] != "row":
                shown(1.0, one["fieldConfig"]["defaults"]["unit"])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A server that knows an hour of two pods, of which one was restarted."""
    server, promtool = (require_tool(name, remedy="make ci-tools") for name in TOOLS)
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "samples").write_text("".join(_samples()))
    blocks = ("tsdb", "create-blocks-from", "openmetrics", "samples", "data")
    subprocess.run([promtool, *blocks], cwd=folder, check=True, capture_output=True)
    (folder / "prometheus.yml").write_text("")
    address = f"127.0.0.1:{free_port()}"
    options = ("--config.file=prometheus.yml", "--storage.tsdb.path=data")
    kept = ("--storage.tsdb.retention.time=100y", f"--web.listen-address={address}")
    with subprocess.Popen([server, *options, *kept], cwd=folder, stderr=subprocess.DEVNULL) as run:
        url = f"http://{address}"
        try:
            wait_until(lambda: _is_ready(url), seconds=30)
            yield Prometheus(url, scrape_seconds=15.0)
        finally:
            run.terminate()


def _samples() -> Iterator[str]:
    for name, kind in (("headrace_processes", "gauge"), ("waiting", "gauge"), ("started", "gauge")):
        yield f"# TYPE {name} {kind}\n"
        for pod, port in (("a", 1), ("b", 2)):
            labels = f'{{pod="{pod}",instance="10.0.0.1:{port}"}}'
            for second in range(0, 3601, 15):
                restarted = pod == "b" and second >= 1800
                value = {"waiting": port * 3, "started": 1 + restarted}.get(name, 1)
                yield f"{name}{labels} {value} {_HOUR.start + second:.0f}\n"
    yield "# EOF\n"


def _is_ready(url: str) -> bool:
    with suppress(OSError):
        urllib.request.urlopen(f"{url}/-/ready", timeout=1).close()
        return True
    return False


@pytest.mark.deploy_tools
def test_it_draws_what_prometheus_knows(prometheus: Prometheus) -> None:
    asked = 'waiting{instance=~"$instance",pod=~"$pod"}'
    answers = Answers(prometheus, _HOUR)
    svg = picture(board(panel("timeseries", asked, "nobody")), answers)
    said = texts(svg)
    assert {"A & B", "Waiting", "a", "b", "3 (max 3)", "6 (max 6)"} <= set(said)
    assert svg.count('class="a"') == 1  # the restart
    assert answers.silent == ["nobody"]


@pytest.mark.deploy_tools
def test_it_draws_one_pod(prometheus: Prometheus) -> None:
    assert prometheus.instances() == ["10.0.0.1:1", "10.0.0.1:2"]
    asked = panel("timeseries", 'waiting{instance=~"$instance"}')
    said = texts(picture(board(asked), Answers(prometheus, _HOUR, "10.0.0.1:2")))
    assert "b" in said
    assert "a" not in said
