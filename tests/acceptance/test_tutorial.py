"""The tutorial's three failures, each impossible here or refused with a sentence.

Also its server, before and after.
"""

import difflib
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.support.live import LiveServer, live_server
from tests.support.openai_server import openai_server

pytestmark = pytest.mark.acceptance

EXAMPLE = Path(__file__).parents[2] / "examples" / "from_the_tutorial"

OWN_SAVER = """
import os
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import START, MessagesState, StateGraph

builder = StateGraph(MessagesState)
builder.add_node("reply", lambda state: {"messages": []})
builder.add_edge(START, "reply")
agent = builder.compile(
    checkpointer=AsyncPostgresSaver.from_conn_string(os.environ["DATABASE_URL"])
)
"""


def serve_and_fail(
    folder: Path, database_url: str, **environment: str
) -> subprocess.CompletedProcess:
    """``headrace serve`` where it must refuse; at most five seconds."""
    own = {
        **{name: value for name, value in os.environ.items() if "HEADRACE" not in name},
        "DATABASE_URL": database_url,
        "HEADRACE_PORT": "0",
        **environment,
    }
    return subprocess.run(
        [sys.executable, "-m", "headrace", "serve"],
        env=own,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_the_connection_is_closed(tmp_path, database_url):
    """Every connection of every process is killed while idle; the next request does not notice."""
    with live_server(tmp_path, database_url) as server:
        body = {"message": "hi", "thread_id": "1"}
        assert httpx.post(f"{server.url}/chat", json=body).status_code == 200
        with psycopg.connect(database_url, autocommit=True) as database:
            database.execute(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        for _ in range(8):
            response = httpx.post(f"{server.url}/chat", json=body)
            assert response.status_code == 200, response.text


def test_async_generator_context_manager_object_has_no_attribute_get_next_version(
    tmp_path, database_url
):
    (tmp_path / "graph.py").write_text(OWN_SAVER)
    (tmp_path / "langgraph.json").write_text('{"graphs": {"agent": "./graph.py:agent"}}')
    refused = serve_and_fail(tmp_path, database_url)
    assert refused.returncode != 0
    (sentence,) = [line for line in refused.stderr.splitlines() if line.startswith("HR")]
    assert sentence.startswith("HR102 ")
    assert "un-entered context manager" in sentence
    assert "headrace injects the saver" in sentence
    assert not [line for line in refused.stderr.splitlines() if line.startswith("Traceback")]


def test_relation_checkpoints_does_not_exist(tmp_path, empty_database_url):
    """An empty database is refused with the command that fills it."""
    refused = serve_and_fail(tmp_path, empty_database_url)
    assert refused.returncode != 0
    (sentence,) = [line for line in refused.stderr.splitlines() if line.startswith("HR")]
    assert sentence.startswith("HR311 ")
    assert "headrace db upgrade" in sentence
    assert "UndefinedTable" not in refused.stderr
    with psycopg.connect(empty_database_url) as database:
        tables = database.execute(
            "SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname = 'public'"
        ).fetchone()
    assert tables == (0,)


class TutorialServer(LiveServer):
    """The example under gunicorn; its app is the user's own, not ours."""

    def start(self) -> None:
        command = [sys.executable, "-m", "headrace", "serve", "--app", "after:app"]
        with self.log_file.open("wb") as log:
            self.master = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, cwd=EXAMPLE
            )


@contextmanager
def tutorial_server(folder: Path, database_url: str):
    with openai_server() as model:
        environment: dict[str, Any] = {
            "MODEL": "openai:gpt-4o-mini",
            "OPENAI_API_KEY": "test",
            "OPENAI_BASE_URL": model.url,
        }
        with live_server(
            folder, database_url, config=None, kind=TutorialServer, **environment
        ) as server:
            yield server


def ask(server: LiveServer, message: str, thread_id: str = "1") -> str:
    response = httpx.post(
        f"{server.url}/ask", json={"message": message, "thread_id": thread_id}, timeout=20
    )
    assert response.status_code == 200, response.text
    reply: str = response.json()["reply"]
    return reply


def test_the_difference_is_at_most_fifteen_lines():
    before = (EXAMPLE / "before.py").read_text().splitlines()
    after = (EXAMPLE / "after.py").read_text().splitlines()
    changed = [
        line
        for line in difflib.unified_diff(before, after, n=0, lineterm="")
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    print(f"{len(changed)} changed lines")
    assert len(changed) <= 15


def test_the_tutorials_server_on_headrace_under_two_processes(tmp_path, database_url):
    with tutorial_server(tmp_path, database_url) as server:
        for turn in range(1, 4):
            assert ask(server, f"turn {turn}") == f"echo: turn {turn} ({2 * turn - 1} messages)"
        values = httpx.get(f"{server.url}/threads/1/state", timeout=10)
        assert values.status_code == 422, "asked past headrace, so it is no thread of the API yet"
        thread_id = httpx.post(f"{server.url}/threads", json={}).json()["thread_id"]
        run = httpx.post(
            f"{server.url}/threads/{thread_id}/runs/wait",
            json={"assistant_id": "agent", "input": {"messages": [["user", "over the API"]]}},
            timeout=20,
        )
        assert run.json()["messages"][-1]["content"] == "echo: over the API (1 messages)"
