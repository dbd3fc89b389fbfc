"""kill -9 in mid-run: the tokens of both attempts count, in the report and in the run's budget."""

import json
import os
import signal
import textwrap

import httpx
import psycopg
import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from tests.support.live import live_server
from tests.support.openai_server import openai_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance
pytest.importorskip("langchain_openai", reason="headrace[models] is not installed")

GRAPH = textwrap.dedent('''
    """Asks a model in each of four nodes; the third call is a stream."""

    from langchain_openai import ChatOpenAI
    from langgraph.graph import END, START, MessagesState, StateGraph

    model = ChatOpenAI(model="gpt-5", stream_usage=True)


    async def ask(state: MessagesState):
        return {"messages": [await model.ainvoke(state["messages"])]}


    async def stream(state: MessagesState):
        async for _ in model.astream(state["messages"]):
            pass


    graph = StateGraph(MessagesState)
    nodes = {"first": ask, "second": ask, "third": stream, "fourth": ask}
    for name, node in nodes.items():
        graph.add_node(name, node)
    for before, after in zip([START, *nodes], [*nodes, END]):
        graph.add_edge(before, after)
''')
RUN = {"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": "hello"}]}}


def test_the_calls_before_a_kill_count_for_report_and_budget(tmp_path, database_url, monkeypatch):
    (tmp_path / "graph.py").write_text(GRAPH)
    config = tmp_path / "langgraph.json"
    config.write_text(json.dumps({"graphs": {"agent": "./graph.py:graph"}}))
    with (
        openai_server() as model,
        live_server(
            tmp_path,
            database_url,
            config=config,
            OPENAI_API_KEY="test",
            OPENAI_BASE_URL=model.url,
            HEADRACE_USAGE__RUN_TOKENS="100",
        ) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
        psycopg.connect(database_url, autocommit=True) as database,
    ):
        model.usage = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}
        model.go_on.clear()
        thread_id = client.post("/threads", json={}).json()["thread_id"]
        run = client.post(f"/threads/{thread_id}/runs", json=RUN).json()

        def rows():
            return database.execute(
                "SELECT attempt, calls, input_tokens, output_tokens FROM run_usage ORDER BY attempt"
            ).fetchall()

        wait_until(lambda: rows() == [(1, 2, 40, 14)], seconds=30)
        wait_until(lambda: len(model.requests) == 3, seconds=30)
        (pid,) = database.execute(
            "SELECT pid FROM processes JOIN runs USING (process_id) WHERE run_id = %s",
            (run["run_id"],),
        ).fetchone() or (0,)
        os.kill(pid, signal.SIGKILL)
        model.go_on.set()

        def ended():
            return database.execute(
                "SELECT status, error->>'error', error->>'message' FROM runs"
                " WHERE status IN ('error', 'success')"
            ).fetchone()

        wait_until(ended, seconds=40)
        # After the fourth call it is 4 * 27 tokens, of which the first process has used 2 * 27.
        assert ended() == (
            "error",
            "TokenBudgetExceeded",
            "This run has used 108 tokens; HEADRACE_USAGE__RUN_TOKENS is 100.",
        )
        assert rows() == [(1, 2, 40, 14), (2, 2, 40, 14)]
        database.execute("DELETE FROM threads")
    monkeypatch.setenv("DATABASE_URL", database_url)
    shown = CliRunner().invoke(app, ["usage", "--by", "run", "--json"])
    assert json.loads(shown.stdout)["rows"] == [
        {
            "run": run["run_id"],
            "calls": 4,
            "input_tokens": 80,
            "output_tokens": 28,
            "cached_tokens": 0,
            "reasoning_tokens": 0,
        }
    ]
