"""headrace and the official server under the same steps: equal, or different with a listed reason.

The official server is used as a black box, from an environment of its own: set
``HEADRACE_TEST_OFFICIAL`` to its ``langgraph`` command (``pip install 'langgraph-cli[inmem]'``).
"""

import asyncio
import inspect
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from langgraph_sdk import get_client

from tests.clients.side_by_side.chapters import CHAPTERS
from tests.clients.side_by_side.comparison import Report, compare
from tests.clients.side_by_side.listed import LISTED
from tests.support.live import live_server
from tests.support.processes import free_port
from tests.support.sources import ROOT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

CONFIG = Path(__file__).with_name("langgraph.json")
COMMAND = os.environ.get("HEADRACE_TEST_OFFICIAL", "")


def test_there_are_enough_steps():
    titles = [f"{name}: {step.title}" for name, make in CHAPTERS.items() for step in make()]
    assert len(titles) >= 300


def test_each_method_of_the_sdk_is_among_them():
    client = get_client(url="http://unused")
    rooms = ("assistants", "threads", "runs", "crons", "store")
    methods = {
        f"{room}.{name}"
        for room in rooms
        for name, _ in inspect.getmembers(type(getattr(client, room)), callable)
        if not name.startswith("_")
    }
    called = {step.call for make in CHAPTERS.values() for step in make()}
    # What this one sends is asked over HTTP: it opens a session of the third protocol.
    assert methods - called == {"threads.stream"}


@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: entry.says[:40])
def test_each_reason_stands_in_the_documentation(entry):
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "docs" / "compatibility.md").read_text().splitlines()
        if line.startswith("|") and entry.says in line
    ]
    assert [row[1] for row in rows] == [entry.kind]


@contextmanager
def official_server(folder: Path) -> Iterator[str]:
    """Serves the graphs of the recording from memory; its address."""
    for name in ("graphs.py", "langgraph.json"):
        shutil.copy(Path(__file__).with_name(name), folder)
    port = free_port()
    with (folder / "official.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *[COMMAND, "dev", "--no-browser", "--no-reload"],
                *["--n-jobs-per-worker", "10", "--port", str(port)],
            ],
            cwd=folder,
            env={**os.environ, "LANGSMITH_TRACING": "false"},
            stdout=log,
            stderr=log,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: _answers(url), seconds=60)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ok").is_success
    except httpx.HTTPError:
        return False


@pytest.mark.skipif(not COMMAND, reason="HEADRACE_TEST_OFFICIAL names no langgraph command")
@pytest.mark.timeout(1200)
def test_each_answer_is_the_official_one_or_differs_as_listed(module_database, tmp_path):
    (tmp_path / "ours").mkdir()
    (tmp_path / "official").mkdir()
    with (
        live_server(tmp_path / "ours", module_database, config=CONFIG) as ours,
        official_server(tmp_path / "official") as official,
    ):
        report: Report = asyncio.run(compare(official, ours.url))
    print(report.text())
    assert report.text().splitlines()[:-1] == []
    assert [entry for number, entry in enumerate(LISTED) if number not in report.used] == []
