"""@langchain/langgraph-sdk, unmodified: its client under Node, and ``useStream`` in Chromium.

The page comes from another origin than the server, so CORS and the headers it exposes are in all of
it. Two releases are tested: the one that people get by default, and 2.0.0, which was published
before it without the tag ``latest``. js/package-lock.json names what is installed; `make test`
installs it where npm is.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.live import live_server
from tests.support.sources import ROOT, page
from tests.support.tools import require_tool

SOURCES = Path(__file__).with_name("js")
MODULES = ROOT / ".tools" / "clients" / "node_modules"

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def server(module_database, tmp_path_factory):
    with live_server(
        tmp_path_factory.mktemp("web"), module_database, config=Path(__file__).with_name("web.json")
    ) as running:
        yield running


#: The packages under which js/package.json installs the client.
RELEASES = {"latest": "@langchain/langgraph-sdk", "2.0.0": "langgraph-sdk-2"}


@pytest.fixture(scope="module", params=RELEASES)
def bundle(request, tmp_path_factory):
    """A folder with the programs and the packages they need in one file each, for each release."""
    require_tool("node", remedy="make ci-tools")
    esbuild = require_tool(
        str(MODULES / ".bin" / "esbuild"),
        remedy="make test where npm is, it installs what js/package-lock.json names",
    )
    folder = tmp_path_factory.mktemp("bundle")
    common = [
        esbuild,
        "--bundle",
        "--log-level=error",
        f"--alias:@langchain/langgraph-sdk={RELEASES[request.param]}",
        '--define:process.env.NODE_ENV="production"',
    ]
    environment = {**os.environ, "NODE_PATH": str(MODULES)}
    page = [
        *common,
        "--jsx=automatic",
        f"--outfile={folder / 'page.js'}",
        str(SOURCES / "page.jsx"),
    ]
    node = [
        *common,
        *["--platform=node", "--format=esm", f"--outfile={folder / 'node.mjs'}"],
        str(SOURCES / "node.mjs"),
    ]
    for command in (page, node):
        subprocess.run(command, check=True, env=environment, timeout=60)
    return folder


def run_node(*arguments: object) -> str:
    answer = subprocess.run(
        ["node", *map(str, arguments)],
        env={**os.environ, "NODE_PATH": str(MODULES)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-4000:]
    return answer.stdout


def test_the_client_under_node(server, bundle):
    facts = json.loads(run_node(bundle / "node.mjs", server.url, str(bundle)))
    status, text = facts.pop("missing")
    assert (status, json.loads(text.partition(": ")[2])["code"]) == (404, "thread_not_found")
    assert facts == {
        "graph": "talker",
        "assistant": "still mine",
        "versions": 2,
        "version": "mine",
        "nodes": ["__start__", "speak", "__end__"],
        "schemas": sorted(
            ["graph_id"]
            + [f"{kind}_schema" for kind in ("input", "output", "state", "config", "context")]
        ),
        "assistants": 1,
        "wait": ["hi", "You said hi, in message 1."],
        "events": ["metadata", "values", "messages", "end"],
        "runId": True,
        "replayed": True,
        "chosen": ["values", "end"],
        "join": 4,
        "run": "success",
        "runs": 2,
        "cancelled": "interrupted",
        "batch": 1,
        "history": 6,
        "before": 4,
        "state": 4,
        "stateAt": 3,
        "updated": "edited",
        "metadata": 1,
        "found": 1,
        "threads": 1,
        "copied": 5,
        "cron": ["keep", None],
        "bound": True,
        "crons": 2,
        "counted": 2,
        "left": 0,
        "item": {"a": 1},
        "items": 1,
        "namespaces": [["js", "notes"]],
        "gone": None,
    }


def test_the_page_names_the_releases_that_are_tested():
    installed = json.loads((SOURCES / "package.json").read_text())["dependencies"]
    versions = [installed[package].rpartition("@")[2] for package in RELEASES.values()]
    row = "`@langchain/langgraph-sdk` {} (what npm installs) and {}"
    assert row.format(*versions) in page("compatibility.md")


@pytest.fixture(scope="module")
def seen(server, bundle):
    """What the browser told, by scene."""
    chromium = require_tool("chromium-headless-shell", remedy="make ci-tools")
    lines = run_node(SOURCES / "browser.mjs", server.url, bundle, chromium).splitlines()
    return {scene["name"]: scene for scene in map(json.loads, lines)}


def test_a_page_shows_the_answer_letter_by_letter(seen):
    scene = seen["tokens"]
    answer = "You said one, in message 1."
    assert scene["messages"] == [["human", "one"], ["ai", answer]]
    assert len(set(scene["texts"])) > len(answer) / 2
    assert all(answer.startswith(text) for text in scene["texts"])
    # The run's id is known from a header alone, which CORS must expose.
    assert [run["thread_id"] for run in scene["created"]] == [scene["thread"]]


def test_a_page_stops_its_run(seen):
    scene = seen["stop"]
    assert scene["runs"] == ["interrupted"]
    # What it has shown: the SDK may read the thread anew by now, which holds no half an answer.
    assert scene["texts"]
    assert not any(text.endswith("in message 1.") for text in scene["texts"])


def test_a_page_that_is_loaded_again_finds_back_to_its_run(seen):
    scene = seen["rejoin"]
    assert scene["runs"] == ["success"]
    assert scene["messages"][1][1].endswith("in message 1.")
    # From the first letter on: the new page has seen nothing yet.
    assert scene["texts"][0] == "Y"


def test_a_page_asks_a_person_and_goes_on(seen):
    scene = seen["resume"]
    assert scene["question"] == {"question": "go on?"}
    assert scene["messages"] == [["human", "ask me"], ["ai", "The answer was yes"]]
    assert scene["interrupt"] is None


def test_a_page_edits_a_message_and_keeps_both_branches(seen):
    scene = seen["fork"]
    assert scene["messages"][:2] == scene["before"]
    assert scene["messages"][2:] == [
        ["human", "instead"],
        ["ai", "You said instead, in message 3."],
    ]
    assert scene["branches"] == [0, 0, 2, 0]


def test_the_browser_had_nothing_to_complain_of(seen):
    assert seen["errors"] == {"name": "errors", "complaints": [], "told": []}
