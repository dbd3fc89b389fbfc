"""The profiles against a server with their graphs, and against one whose graphs are wrong."""

import json

import pytest

from tests.support.live import live_server
from tests.support.load import load
from tests.support.sources import ROOT

pytestmark = pytest.mark.acceptance

GRAPHS = ROOT / "loadtests" / "graphs" / "langgraph.json"
BROKEN = ROOT / "tests" / "loadtests" / "broken_graphs.py"
SHORT = {"LOAD_USERS": "4", "LOAD_SECONDS": "2.5", "LOAD_THINK_SECONDS": "0.01"}
#: On a machine with other work.
PATIENT = {"LOAD_P95_MS": "20000", "LOAD_P99_MS": "20000"}


@pytest.fixture(scope="module")
def server(module_database, tmp_path_factory):
    with live_server(tmp_path_factory.mktemp("right"), module_database, config=GRAPHS) as server:
        yield server


@pytest.mark.parametrize(
    ("profile", "asked"),
    [
        ("agent", "SSE /runs/stream agent end"),
        ("stream", "SSE /runs/{id}/stream end"),
        ("background", "GET /runs/{id}/join"),
        ("resume", "POST /runs/wait resumed"),
        ("mixed", "POST /threads/search"),
    ],
)
def test_a_right_server_passes(server, tmp_path, profile, asked):
    outcome = load(server.url, tmp_path, profile=profile, **SHORT, **PATIENT)
    assert outcome.code == 0, outcome.printed
    assert outcome.result["failures"] == []
    assert outcome.entries("requests")[asked] > 0
    assert outcome.result["conversations"]["completed"] > 0
    (charts,) = (tmp_path / "results").glob(f"*-{profile}.html")
    assert "<html" in charts.read_text()


def test_a_slow_server_fails(server, tmp_path):
    outcome = load(server.url, tmp_path, profile="resume", **SHORT, LOAD_P95_MS="0.5")
    assert outcome.code == 1
    assert "threshold broken: p95 of all requests is" in outcome.printed


def test_a_test_ends_after_its_requests(server, tmp_path):
    settings = {**SHORT, **PATIENT, "LOAD_SECONDS": "60", "LOAD_REQUESTS": "40"}
    outcome = load(server.url, tmp_path, profile="resume", **settings)
    assert outcome.code == 0, outcome.printed
    assert 40 <= sum(outcome.entries("requests").values()) < 200


def test_what_is_not_served_is_told(tmp_path, database_url):
    with live_server(tmp_path, database_url, config=None) as server:
        outcome = load(server.url, tmp_path, profile="resume", **SHORT)
    assert outcome.code == 1
    assert "does not serve approval. Start it with HEADRACE_CONFIG=" in outcome.printed


@pytest.fixture(scope="module")
def wrong_server(module_database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    manifest = folder / "langgraph.json"
    names = ("agent", "approval", "tokens", "sleeper")
    graphs = {name: f"{BROKEN}:{name}" for name in names}
    manifest.write_text(json.dumps({"graphs": graphs, "dependencies": [str(ROOT)]}))
    with live_server(folder, module_database, config=manifest) as server:
        yield server


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("agent", "wrong reply to"),
        ("stream", "tokens: "),
        ("background", "values: "),
        ("resume", "what the run asks"),
        ("overload", "what was said"),
    ],
)
def test_a_wrong_server_fails(wrong_server, tmp_path, profile, said):
    outcome = load(wrong_server.url, tmp_path, profile=profile, **SHORT, **PATIENT)
    assert outcome.code == 1
    assert said in outcome.errors(), outcome.printed
    assert outcome.result["conversations"]["completed"] == 0
