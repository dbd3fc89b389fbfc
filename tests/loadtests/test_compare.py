"""The comparison over HTTP: its short form from end to end, and what it reckons."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from loadtests.compare.__main__ import measured
from loadtests.compare.cells import HttpSample
from loadtests.compare.comparison import Compared, Samples
from loadtests.compare.contenders import CONTENDERS, HEADRACE
from loadtests.compare.options import PROFILES, options_from
from loadtests.compare.report import chart, lines_of, page_lines
from loadtests.compare.targets import Bound, judged, not_judged
from loadtests.compare.workloads import WORKLOADS, OnThread, Traits, run_body
from loadtests.measuring.figures import missed
from loadtests.peers import install
from loadtests.peers.external import ENVIRONMENTS, NotInstalled, program_of, url_of
from tests.support.sources import ROOT


def sample(speed: float) -> HttpSample:
    return HttpSample(speed, 1.0, 2.0, 3.0, 0.3, 0.07)


def found() -> Compared:
    own = {
        "wait": {
            HEADRACE: [sample(500), sample(400)],
            "ceiling": [sample(1000), sample(1000)],
            "tutorial": [sample(200), sample(200)],
        },
        "threads": {HEADRACE: [sample(800)]},
        "empty": {HEADRACE: [sample(2000)]},
    }
    peers: dict[str, Samples] = {
        "aegra": {"wait": {HEADRACE: [sample(500)], "aegra": [sample(20)]}},
        "runtime_pg": {"wait": {HEADRACE: [sample(400)], "runtime_pg": [sample(50)]}},
        "langgraph_dev": {"wait": {HEADRACE: [sample(500)], "langgraph_dev": [sample(250)]}},
    }
    lone = {HEADRACE: [6.0, 6.0], "tutorial": [5.0, 6.0]}
    return Compared(own, peers, lone, {"wait": (1.5, 0.2)}, {"graphharbor": "it is not here"})


@pytest.mark.acceptance
@pytest.mark.alone
@pytest.mark.timeout(310)
def test_the_short_form_keeps_seventy_percent_of_every_floor(tmp_path):
    """Ten short rounds, interleaved, and the median of their ratios.

    Requests per second depend on what else the machine does, so beside the servers of this
    repository processor time is held to 70 % of the floor, and requests per second to half of it.
    If a floor is missed, all is measured once more, and only that measurement is judged.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COMPARE_")}
    kept.pop("DATABASE_URL", None)
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.compare"],
        cwd=ROOT,
        env={**kept, "COMPARE_PROFILE": "short", "COMPARE_RESULTS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "compare.json").read_text()
    result = json.loads(text)
    short = PROFILES["short"]
    assert set(result["own"]) == set(short.workloads)
    for by_name in result["own"].values():
        assert set(by_name) == set(short.contenders)
        for figures in by_name.values():
            assert figures["per_second"]["min"] > 0
    assert result["left_out"] == {}
    assert set(result["lone_p50_ms"]) == {"headrace", "tutorial"}
    assert result["machine"]["loop_milliseconds"] > 0
    assert (result["postgres"]["fsync"], result["postgres"]["synchronous_commit"]) == ("on", "on")
    assert str(tmp_path) not in text
    assert os.uname().nodename not in text
    assert all(word in done.stdout for word in ("floor", "req/s"))
    labels = {one["label"] for one in result["judged"] if "verdict" in one}
    for workload, name in (("wait", "tutorial"), ("wait", "ceiling"), ("stream", "ceiling")):
        assert {f"{workload}: to {name}", f"{workload}: CPU of {name} to ours"} <= labels
    for workload in ("wait", "stream"):
        assert f"{workload}: cores of the client beside headrace" in labels


def test_figures_are_held_to_their_targets():
    bound = Bound(commit_ms=3.2, connections=32)
    rows = {row.label: row for row in judged(found(), bound, 1.0)}
    verdicts = {label: row.verdict for label, row in rows.items()}
    assert rows["wait: to ceiling"].found["median"] == 0.45
    assert verdicts["wait: to ceiling"] == "floor"
    assert verdicts["wait: to tutorial"] == "missed"
    # The best one, not the mean; and langgraph dev, which keeps nothing in Postgres, is none.
    assert rows["wait: to the best peer, runtime_pg"].found["median"] == 8
    assert verdicts["wait: to langgraph_dev"] == "missed"
    # Half a millisecond for the empty route, and a tenth for the shared commit.
    (of_bound,) = (row for label, row in rows.items() if label.startswith("threads: of the bound"))
    assert of_bound.found["median"] == pytest.approx(800 / (1 / 0.0006))
    assert verdicts["lone wait p50: to tutorial"] == "floor"
    assert verdicts["wait: statements of a run"] == "floor"
    # 0.07 ms at 450 requests a second; the ceiling keeps the client busiest.
    client = {
        label.replace(" cores of the client beside", ""): (row.found["median"], row.verdict)
        for label, row in rows.items()
        if "cores of the client" in label
    }
    assert client == {
        "wait: headrace": (0.0315, "floor"),
        "wait: ceiling": (0.07, ""),
        "threads: headrace": (0.056, ""),
        "empty: headrace": (0.14, ""),
    }
    # No peer was asked for a thread or a state, and nobody for a stream.
    assert not_judged(list(rows.values())) == [
        "stream: to ceiling",
        "threads: to the best peer",
        "state: to the best peer",
        "stream: cores of the client beside headrace",
    ]


def test_a_short_form_judges_processor_time_and_holds_rates_to_less():
    bound = Bound(commit_ms=3.2, connections=32)
    costly = {
        HEADRACE: [replace(sample(500), server_cpu_ms=11.0)],
        "ceiling": [sample(1000)],
    }
    whole = {row.label: row for row in judged(Compared({"wait": costly}), bound, 1.0)}
    assert whole["wait: CPU of ceiling to ours"].verdict == ""
    rows = {row.label: row for row in judged(Compared({"wait": costly}), bound, 0.7, 0.5)}
    assert rows["wait: CPU of ceiling to ours"].found["median"] == pytest.approx(3.3 / 11.3, 1e-3)
    assert rows["wait: CPU of ceiling to ours"].verdict == "floor"
    told = {row.label: row.verdict for row in judged(found(), bound, 0.7, 0.5)}
    # 2.25 of 2.5; every server took as much processor time, of 2.2.
    assert told["wait: to tutorial"] == "floor"
    assert told["wait: CPU of tutorial to ours"] == "missed"
    slow = {HEADRACE: [sample(240)], "tutorial": [sample(200)]}
    told = {row.label: row.verdict for row in judged(Compared({"wait": slow}), bound, 0.7, 0.5)}
    assert told["wait: to tutorial"] == "missed"


def measurements(*rates: float) -> Iterator[Compared]:
    """Of headrace and the ceiling, with these rates of headrace."""
    for rate in rates:
        ours = replace(sample(rate), server_cpu_ms=1500 / rate)
        yield Compared({"wait": {HEADRACE: [ours], "ceiling": [sample(1000)]}})


@pytest.mark.parametrize(
    ("rates", "verdict", "repeated"),
    [([500], "goal", False), ([100, 500], "goal", True), ([100, 101], "missed", True)],
)
def test_a_missed_floor_of_the_short_form_is_measured_once_more(rates, verdict, repeated):
    bound, left = Bound(3.2, 32), measurements(*rates)
    compared, rows, before = measured(lambda: next(left), bound, PROFILES["short"])
    assert {row.label: row.verdict for row in rows}["wait: CPU of ceiling to ours"] == verdict
    assert compared.own["wait"][HEADRACE][0].per_second == rates[-1]
    assert missed(before) is repeated
    assert next(left, None) is None


def test_neither_the_full_form_nor_what_failed_is_measured_again():
    bound, left = Bound(3.2, 32), measurements(100, 500)
    assert missed(measured(lambda: next(left), bound, PROFILES["full"])[1])
    (broken,) = measurements(100)
    broken.left_out[HEADRACE] = "wait: 3 connections broke"
    compared, rows, before = measured(lambda: broken, bound, PROFILES["short"])
    assert compared is broken
    assert missed(rows)
    assert before == []


def test_a_client_that_takes_more_than_a_tenth_of_a_core_misses_its_floor():
    busy = replace(sample(1000), client_cpu_ms=0.11)
    rows = judged(Compared({"wait": {HEADRACE: [busy] * 3}}), Bound(3.2, 32), 1.0)
    told = {row.label: row.verdict for row in rows}
    assert told["wait: cores of the client beside headrace"] == "missed"


def test_table_chart_and_page_name_everybody():
    compared, options = found(), PROFILES["full"]
    bound = Bound(3.2, 32)
    rows = judged(compared, bound, 1.0)
    printed = "\n".join(lines_of(compared, rows))
    assert all(name in printed for name in ("tutorial", "ceiling", "aegra", "langgraph_dev"))
    assert "left out: graphharbor: it is not here" in printed
    assert "not judged: stream: to ceiling" in printed
    drawn = chart(compared, options)
    rectangles = list(ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}rect"))
    assert len(rectangles) == 3 + 3 + 1  # wait with its peers, threads
    # headrace made 450 in the median, runtime_pg an eighth of it.
    assert "56.2/s" in drawn
    facts = {
        "machine": {"cores": 2, "cpu": "x", "loop_milliseconds": 60},
        "postgres": {"server_version": "15", "fsync": "on"},
    }
    page = "\n".join(page_lines(compared, rows, bound, options, facts))
    assert all(contender.said in page for contender in CONTENDERS.values())
    assert "`make agents` measures them ([below](#agents-that-stream))" in page
    assert "![Requests per second of each contender](compare.svg)" in page


def test_settings_narrow_it():
    assert options_from({}).whole
    assert options_from({"COMPARE_ROUNDS": "2", "COMPARE_SECONDS": "1.5"}).whole
    narrow = options_from({"COMPARE_CONTENDERS": "tutorial, headrace", "COMPARE_WORKLOADS": "wait"})
    assert narrow.contenders == ("headrace", "tutorial")
    assert not narrow.whole
    assert options_from({"COMPARE_PROFILE": "short"}).share == 0.7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COMPARE_PROFILE", "long"),
        ("COMPARE_ROUNDS", "0"),
        ("COMPARE_SECONDS", "nan"),
        ("COMPARE_CONTENDERS", "redis"),
        ("COMPARE_WORKLOADS", "sleep"),
    ],
)
def test_settings_that_cannot_be(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        options_from({name: value})


def test_a_request_about_a_thread_is_whole():
    data = OnThread.of("POST", "/threads/{}/runs/wait", run_body("trivial", [])).about("a" * 36)
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length is not None
    assert int(length[1]) == len(body)
    assert head.startswith(b"POST /threads/" + b"a" * 36 + b"/runs/wait HTTP/1.1\r\n")
    assert json.loads(body)["if_not_exists"] == "create"


def test_a_server_that_forgets_is_sent_the_conversation():
    def messages(script: object) -> int:
        asked = script.asked  # type: ignore[attr-defined]
        return len(json.loads(asked.tail.partition(b"\r\n\r\n")[2])["input"]["messages"])

    long = WORKLOADS["long_thread"].script
    assert messages(long(Traits(remembers=False))) == 199
    assert messages(long(Traits(remembers=True))) == 1


@pytest.mark.parametrize("name", ["headrace", "ceiling", "redis"])
def test_only_peers_of_others_are_installed(name, tmp_path, capsys):
    """A name that needs no environment is refused, before anything is installed."""
    environ = {"COMPARE_CONTENDERS": f"aegra,{name}", "COMPARE_PEERS": str(tmp_path)}
    assert install.main(environ) == 2
    assert capsys.readouterr().err.startswith(f"COMPARE_CONTENDERS={name}: there are langgraph_dev")
    assert list(tmp_path.iterdir()) == []


def test_contenders_name_the_environments_that_are_installed():
    assert install.wanted_environments({}) == list(ENVIRONMENTS)
    assert install.wanted_environments({"COMPARE_CONTENDERS": "aegra_alone, aegra"}) == ["aegra"]


def test_peers_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPARE_PEERS", str(tmp_path))
    with pytest.raises(NotInstalled, match="make compare-peers"):
        program_of("aegra")
    with pytest.raises(NotInstalled, match="DATABASE_URL"):
        url_of("host=/tmp/somewhere user=x dbname=y")
    assert url_of("host=h port=1 user=u password=p dbname=d") == "postgresql://u:p@h:1/d"
    used = {one.environment for one in CONTENDERS.values() if one.environment}
    assert used == set(ENVIRONMENTS)


def test_the_readme_shows_what_was_measured() -> None:
    """Its figures are those of the page, which the command wrote."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for page in ("README.md", "docs/performance.md")
        for line in (ROOT / page).read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    by_server: dict[str, list[str]] = {}
    for first, *rest in rows:
        by_server.setdefault(first, rest)
    titles = (
        HEADRACE,
        *(CONTENDERS[name].title for name in ("tutorial", "runtime_pg", "aegra_alone")),
        *(CONTENDERS[name].title for name in ("langgraph_dev", "ceiling")),
    )
    columns = {"`runs/wait`, trivial graph, all kept": 0, "`runs/stream`": 1, "`GET state`": 5}
    for label, column in columns.items():
        assert by_server[label] == [by_server[title][column] for title in titles], label
