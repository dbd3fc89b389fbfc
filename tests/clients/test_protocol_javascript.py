"""The streaming protocol v3 with the unmodified JavaScript client, under Node.

``threads.stream`` with both transports, and the controller behind ``@langchain/react``. Release
2.0.0 of the client is older than the protocol, and has neither.
"""

import json
import os
import subprocess

import pytest

from tests.clients.test_javascript import MODULES, SOURCES, run_node
from tests.support.tools import require_tool

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A folder with each program and the packages it needs in one file."""
    require_tool("node", remedy="make ci-tools")
    esbuild = require_tool(
        str(MODULES / ".bin" / "esbuild"),
        remedy="make test where npm is, it installs what js/package-lock.json names",
    )
    folder = tmp_path_factory.mktemp("programs")
    subprocess.run(
        [
            esbuild,
            "--bundle",
            "--log-level=error",
            "--platform=node",
            "--format=esm",
            "--out-extension:.js=.mjs",
            f"--outdir={folder}",
            str(SOURCES / "protocol.mjs"),
            str(SOURCES / "controller.mjs"),
        ],
        check=True,
        env={**os.environ, "NODE_PATH": str(MODULES)},
        timeout=60,
    )
    return folder


@pytest.mark.parametrize("transport", ["sse", "websocket"])
def test_threads_stream(clients_server, programs, transport):
    # Node 20 has WebSockets behind this flag; later ones have them without.
    program = ["--experimental-websocket", programs / "protocol.mjs"]
    facts = json.loads(run_node(*program, clients_server.url, transport))
    assert facts == {
        "runId": "string",
        "texts": [["H", "i", " ", "y", "o"]],
        "output": ["hi", "Hi yo"],
        "second": 4,
        "replayed": ["running", "values", "values", "completed"],
        "asked": [[{"question": "approve v3?"}, []]],
        "answered": ["asked", "done:ok"],
        "failed": "ValueError: kaboom in node",
        "subgraphs": ["child"],
        # The client tells a call when it begins, and when it ends.
        "calls": [["add", {"a": 2, "b": 3}]] * 2,
        "refused": ["no_such_interrupt", "no_such_run", "not_supported"],
    }


def test_the_controller_of_pages(clients_server, programs):
    facts = json.loads(run_node(programs / "controller.mjs", clients_server.url))
    assert facts == {
        "turns": ["one", "Hi yo", "two", "Hi yo"],
        "loading": False,
        "error": None,
        "loaded": ["one", "Hi yo", "two", "Hi yo"],
        "third": "Hi yo",
        "asked": [{"question": "approve v3?"}],
        "known": 1,
        "answered": ["asked", "done:ok"],
        "left": [0, 0],
        "failed": "ValueError: kaboom in node",
        "created": 5,
    }
