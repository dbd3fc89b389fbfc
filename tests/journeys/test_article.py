"""A stranger's journey: an article's chat moves over, by docs/from-the-tutorial.md alone."""

import httpx
import pytest

from tests.journeys.project import Project

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

MOVES = [
    ("import os\n", "import headrace\nimport os\n"),
    ("from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver\n", ""),
    ("from langgraph.store.postgres.aio import AsyncPostgresStore\n", ""),
    (
        "app = FastAPI(lifespan=lifespan)\n",
        'app = FastAPI(lifespan=headrace.lifespan(graphs={"agent": create_graph}))\n',
    ),
    (
        "    graph = request.app.state.graph\n",
        '    graph = headrace.graph(request, "agent")\n',
    ),
    (
        '    return {"reply": result["messages"][-1].content}\n',
        '    return {"reply": result["messages"][-1].content}\n'
        "app.include_router(headrace.router)\n",
    ),
]


def say(url: str, message: str, thread_id: str) -> str:
    body = {"message": message, "thread_id": thread_id, "user_id": "ada"}
    answer = httpx.post(f"{url}/chat", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
    reply: str = answer.json()["reply"]
    return reply


def test_an_articles_chat_moves_over_with_its_conversations(tmp_path, empty_database_url):
    project = Project(tmp_path / "article", "article", "from-the-tutorial.md")
    project.set(DATABASE_URL=empty_database_url, HEADRACE_PROCESSES="1")
    with project.serving("uvicorn", "main:app", ready="/docs") as url:
        assert say(url, "remember tea", "1") == "turn 1, known: tea"
        assert say(url, "hello", "1") == "turn 2, known: tea"

    text = (project.folder / "main.py").read_text()
    begin, end = text.index("@asynccontextmanager"), text.index("app = FastAPI(")
    project.edit("main.py", text[begin:end], "")
    project.edit("main.py", "from contextlib import asynccontextmanager\n", "")
    for old, new in MOVES:
        project.edit("main.py", old, new)
    assert "LangGraph" not in project.run("headrace", "db", "upgrade")
    assert project.run("headrace", "db", "adopt") == "1 threads adopted\n"

    with project.serving("headrace", "serve", "--app=main:app", ready="/readyz") as url:
        assert say(url, "hello again", "1") == "turn 3, known: tea"
        assert say(url, "remember cake", "2") == "turn 1, known: cake, tea"
        state = httpx.get(f"{url}/threads/1/state").json()
        assert len(state["values"]["messages"]) == 6
        thread = httpx.post(f"{url}/threads", json={}).json()["thread_id"]
        run = httpx.post(
            f"{url}/threads/{thread}/runs/wait",
            json={
                "assistant_id": "agent",
                "input": {"messages": [["user", "over the API"]]},
                "config": {"configurable": {"user_id": "ada"}},
            },
            timeout=20,
        )
        assert run.json()["messages"][-1]["content"] == "turn 1, known: cake, tea"
        log = (project.folder / "log").read_text()
    assert "route_hidden" in log, "its own /chat answers, and the log says so"
    assert "POST /chat" in log
