"""Eight mistakes of a first day; each is answered within five seconds, in one sentence."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from tests.support.processes import free_port
from tests.support.start_times import start_limit_seconds

pytestmark = [pytest.mark.acceptance, pytest.mark.paired]

CHECKOUT = Path(__file__).parents[2]

GRAPH = """
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

builder = StateGraph(MessagesState)
builder.add_node("reply", lambda state: {"messages": []})
builder.add_edge(START, "reply")
agent = builder.compile(checkpointer=InMemorySaver())
"""


class Folder:
    """A newcomer's folder, and what is typed there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def type(self, *command: str, **environment: str) -> str:
        """The sentence that answers; it and the end of the command come in time."""
        own = {**os.environ, "HEADRACE_PORT": str(free_port()), **environment}
        started = time.monotonic()
        with subprocess.Popen(
            command,
            cwd=self.path,
            env=own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            killer = Timer(60, process.kill)
            killer.start()
            sentence, answered = "", 0.0
            assert process.stdout is not None
            output = []
            for line in process.stdout:
                output.append(line)
                if line.startswith("HR"):
                    assert not sentence, "said twice"
                    sentence, answered = line.strip(), time.monotonic() - started
            killer.cancel()
        assert process.returncode != 0
        assert sentence, "".join(output)
        print(f"{answered:.1f} s: {sentence}")
        assert answered <= start_limit_seconds(), "".join(output)
        assert not any(line.startswith("Traceback") for line in output)
        return sentence


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def headrace(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "headrace", *arguments]


def test_a_wrong_path_of_the_graph(folder):
    folder.write("langgraph.json", '{"graphs": {"agent": "./grpah.py:agent"}}')
    said = folder.type(*headrace("dev"))
    assert said.startswith("HR101 graph 'agent' (./grpah.py:agent): there is no file ./grpah.py.")


def test_a_checkpointer_of_ones_own(folder):
    folder.write("graph.py", GRAPH)
    said = folder.type(*headrace("dev", "graph.py:agent"))
    assert said.startswith("HR102 graph 'agent'")
    assert "a checkpointer (InMemorySaver) of its own" in said
    assert "Remove it: headrace injects the saver." in said


def test_no_key_for_the_model(folder):
    said = folder.type(*headrace("dev"), HEADRACE_MODEL="openai:gpt-5")
    assert said.startswith("HR110 HEADRACE_MODEL=openai:gpt-5")
    assert "OPENAI_API_KEY" in said


def test_a_port_that_is_taken(folder, taken_port):
    said = folder.type(*headrace("dev", "--port", str(taken_port)))
    assert said.startswith(f"HR201 127.0.0.1:{taken_port}: ")
    assert "--port" in said


def test_a_python_that_is_too_old(folder):
    folder.write("old", '#!/bin/sh\ncase "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac\n')
    old = folder.path / "old"
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "requirements-run.lock"):
        shutil.copy(CHECKOUT / name, folder.path)
    said = folder.type("make", "run", f"PYTHON={old}")
    assert said.startswith(f"HR202 {old}: it is Python 3.9.2, headrace needs Python 3.11 or newer.")
    assert "make run PYTHON=" in said


def test_a_database_that_is_down(folder):
    url = f"postgresql://postgres:geheim@127.0.0.1:{free_port()}/app"
    said = folder.type(*headrace("dev"), DATABASE_URL=url)
    assert said.startswith("HR301 database 127.0.0.1:")
    assert "Start Postgres or correct DATABASE_URL." in said
    assert "geheim" not in said


def test_a_server_says_so_too_while_it_waits_for_the_database(folder):
    url = f"postgresql://postgres@127.0.0.1:{free_port()}/app"
    process = subprocess.run(
        headrace("serve"),
        cwd=folder.path,
        env={
            **os.environ,
            "DATABASE_URL": url,
            "HEADRACE_PORT": str(free_port()),
            "HEADRACE_DATABASE__OPEN_TIMEOUT_SECONDS": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode != 0
    lines = process.stderr.splitlines()
    assert lines[0].startswith("waiting up to 1 s for the database: HR301 ")
    assert len([line for line in lines if line.startswith("HR301 ")]) == 1


def test_a_schema_that_is_behind(folder, empty_database_url):
    said = folder.type(*headrace("serve"), DATABASE_URL=empty_database_url)
    assert said.startswith("HR311 database schema: the schema is empty")
    assert "headrace db upgrade" in said


def test_embedded_data_of_another_major_version(folder):
    folder.write(".headrace/pg/PG_VERSION", "16\n")
    said = folder.type(*headrace("dev"))
    assert said.startswith("HR321 ")
    assert "16" in said
    assert "18" in said
