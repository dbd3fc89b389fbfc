"""``examples/own_graph``: a state of its own and a package of its own, served."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.live import LiveServer, live_server
from tests.support.sources import ROOT
from tests.support.trust import registry_environment

pytestmark = pytest.mark.acceptance

EXAMPLE = ROOT / "examples" / "own_graph"


def packages(folder: Path) -> str:
    """A PYTHONPATH with the example's requirements."""
    if importlib.util.find_spec("slugify") is not None:
        return ""
    wanted = ["--target", str(folder), "--requirement", str(EXAMPLE / "requirements.txt")]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted],
        env=registry_environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        reason = f"the example's requirements cannot be installed here: {done.stderr[-300:]}"
        if os.environ.get("HEADRACE_REQUIRE_TOOLS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return str(folder)


@pytest.fixture(scope="module")
def server(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("own-graph")
    path = os.pathsep.join([packages(folder / "packages"), os.environ.get("PYTHONPATH", "")])
    with live_server(
        folder, module_database, config=EXAMPLE / "langgraph.json", PYTHONPATH=path
    ) as server:
        yield server


def test_the_small_door_leads_to_it(server: LiveServer) -> None:
    said = {"message": "Crème brûlée!", "thread_id": "menu"}
    assert httpx.post(f"{server.url}/chat", json=said, timeout=20).json()["reply"] == (
        "/creme-brulee (title 1, most of all about creme)"
    )
    said["message"] = "Ice crème"
    assert httpx.post(f"{server.url}/chat", json=said, timeout=20).json()["reply"] == (
        "/ice-creme (title 2, most of all about creme)"
    )


def test_its_own_state_is_kept(server: LiveServer) -> None:
    thread = httpx.post(f"{server.url}/threads", json={}).json()["thread_id"]
    run = {"assistant_id": "titles", "input": {"messages": [{"role": "user", "content": "A b"}]}}
    httpx.post(f"{server.url}/threads/{thread}/runs/wait", json=run, timeout=20)
    values = httpx.get(f"{server.url}/threads/{thread}/state").json()["values"]
    assert (values["slugs"], values["words"]) == (["a-b"], {"a": 1, "b": 1})
