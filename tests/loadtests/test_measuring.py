"""What all measurements share: figures, results, charts, servers and databases."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import psycopg
import pytest

from loadtests.measuring import machine
from loadtests.measuring.charts import (
    LINES,
    NOT_DURABLE,
    TEXT,
    Bar,
    Bars,
    Line,
    Lines,
    bars,
    lines,
)
from loadtests.measuring.database import PostgresProcessor, fresh_database
from loadtests.measuring.figures import Judged, Target, judged_lines, missed, ratios, spread
from loadtests.measuring.processors import group_cpu_seconds
from loadtests.measuring.results import write_result, write_section
from loadtests.measuring.servers import NotServing, headrace_server, serving, write_manifest
from tests.support.sources import ROOT

SVG = "{http://www.w3.org/2000/svg}"


def luminance(colour: str) -> float:
    """Of sRGB, as WCAG defines it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(
    ("colour", "needed"),
    [(TEXT, 4.2), (NOT_DURABLE, 2.5), *((one, 3) for one in LINES)],
)
def test_the_chart_can_be_read_on_white_and_on_black(colour, needed):
    one, white, black = luminance(colour), luminance("#ffffff"), luminance("#0d1117")
    assert (white + 0.05) / (one + 0.05) >= needed
    assert (one + 0.05) / (black + 0.05) >= needed


def test_charts_draw_every_bar_and_line():
    drawn = bars("said", [Bars("a & b", [Bar("x", 2, 1, 3, "2/s"), Bar("y", 1, 1, 1, "1/s")])])
    assert len(list(ElementTree.fromstring(drawn).iter(f"{SVG}rect"))) == 2
    curves = [Line("x", [(10, 1.0), (1000, 2.0)]), Line("y", [(10, 3.0)])]
    drawn = lines("said", [Lines("growth", curves, "turns", "ms")])
    assert len(list(ElementTree.fromstring(drawn).iter(f"{SVG}polyline"))) == 2


def test_figures_are_judged_and_a_short_form_is_held_to_a_share():
    fast = Target(0.4, 0.6)
    rows = [
        Judged("good", spread([0.5, 0.7, 0.6]), fast),
        Judged("poor", spread([0.3]), fast),
        Judged("poor but short", spread([0.3]), fast, share=0.7),
        Judged("told", spread([120.0])),
    ]
    assert [row.verdict for row in rows] == ["goal", "missed", "floor", ""]
    assert missed(rows)
    assert not missed(rows[2:])
    assert any("0.6" in line and "goal" in line for line in judged_lines(rows))
    assert rows[1].plain()["floor"] == 0.4
    assert ratios([4, 9], [2, 3]) == [2, 3]
    wait = Target(1.2, 1.0, lower_is_better=True)
    assert wait.verdict(1.5) == "missed"
    assert wait.verdict(1.5, share=0.7) == "floor"


def test_results_tell_the_machine_and_sections_are_replaced(tmp_path):
    written = json.loads(write_result("x", {"figure": 1}, folder=tmp_path).read_text())
    assert written["figure"] == 1
    assert written["machine"]["loop_milliseconds"] > 0
    with pytest.raises(ValueError, match="y: the result has no loop_milliseconds"):
        write_result("y", {"machine": {"cores": 2}}, folder=tmp_path)
    assert not (tmp_path / "y.json").exists()
    page = tmp_path / "page.md"
    page.write_text("# T\n\n<!-- x -->\nold\n<!-- /x -->\n\nrest\n")
    write_section(page, "x", ["new", "", "lines"])
    assert page.read_text() == "# T\n\n<!-- x -->\nnew\n\nlines\n<!-- /x -->\n\nrest\n"
    with pytest.raises(ValueError, match="no markers for y"):
        write_section(page, "y", [])


def test_no_place_is_told():
    assert "/" not in json.dumps(machine.facts()["cpu"])


def test_a_fresh_database_is_dropped_again(empty_database_url):
    with fresh_database(empty_database_url, migrated=False) as database:
        with psycopg.connect(database.url) as connection:
            connection.execute("CREATE TABLE t AS SELECT generate_series(1, 100000)")
        database.analyze()
        before = PostgresProcessor(database).seconds()
        assert before is None or before > 0
        assert database.facts()["server_version"]
    with psycopg.connect(empty_database_url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_database WHERE datname = %s", [database.name]
        ).fetchone()
    assert row == (0,)


@pytest.mark.acceptance
def test_headrace_is_started_watched_and_stopped(database_url, tmp_path):
    manifest = write_manifest(
        tmp_path, {"quiet": f"{ROOT / 'loadtests' / 'streams' / 'quiet.py'}:quiet"}
    )
    with headrace_server(database_url, manifest=manifest, folder=tmp_path) as server:
        before = server.cpu_seconds()
        status, thread = server.ask("POST", "/threads", {})
        assert (status, thread["status"]) == (200, "idle")
        assert server.processes() >= 3
        assert server.rss_bytes() > 50e6
        assert server.cpu_seconds() >= before > 0
    assert server.processes() == 0


def test_a_server_that_does_not_start_says_what_it_printed(tmp_path):
    with (
        pytest.raises(NotServing, match="no such thing"),
        serving(
            "odd", ["sh", "-c", "echo no such thing; exit 3"], 1, {"PATH": "/bin"}, folder=tmp_path
        ),
    ):
        pass


@pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="the kernel counts processor time in ticks"
)
def test_processor_time_of_a_server_is_finer_than_ticks():
    ticks = group_cpu_seconds(os.getpgrp()) * os.sysconf("SC_CLK_TCK")
    assert ticks > 0
    assert abs(ticks - round(ticks)) > 1e-6
