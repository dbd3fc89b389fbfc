"""A stranger's journey: an app with all its own takes in headrace, by docs/library.md alone.

``HEADRACE_FLOORS_PYTHON`` names the Python of another environment to travel in: one with the oldest
releases that headrace takes.
"""

import asyncio
from typing import Any

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client

from tests.journeys.project import Project
from tests.support.sources import page

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

SCHEMA = "HEADRACE_DATABASE__SCHEMA"
#: The shop's table has a name of headrace's, where headrace can be given a schema of its own.
CLASHES = SCHEMA in page("configuration.md")

ADOPTIONS = [
    ("main.py", "import os\n", "import os\nimport headrace\n"),
    (
        "main.py",
        "from models import Base, Thread\n",
        "from graph import builder\nfrom models import Base, Thread\n",
    ),
    (
        "main.py",
        '    yield {"sessions": async_sessionmaker(engine)}\n',
        '    async with headrace.lifespan(graphs={"agent": builder})(app) as state:\n'
        '        yield {**state, "sessions": async_sessionmaker(engine)}\n',
    ),
    (
        "main.py",
        "app = FastAPI(lifespan=lifespan)\n",
        'app = FastAPI(lifespan=lifespan)\napp.include_router(headrace.router, prefix="/agents")\n',
    ),
    (
        "main.py",
        '    return {"reply": "We will call you back."}\n',
        '    graph = headrace.graph(request, "agent")\n'
        '    config = {"configurable": {"thread_id": question.thread_id}}\n'
        '    result = await graph.ainvoke({"messages": [("user", question.message)]}, config)\n'
        '    return {"reply": result["messages"][-1].content}\n',
    ),
    ("tests/test_app.py", "def test_chat():", "def test_chat(headrace_database):"),
    (
        "conftest.py",
        "",
        "import pytest\n"
        "from models import Base\n"
        "from sqlalchemy import create_engine\n"
        'pytest_plugins = ["headrace.testing"]\n'
        '@pytest.fixture(scope="session")\n'
        "def headrace_prepare():\n"
        "    return lambda url: Base.metadata.create_all("
        'create_engine(url.replace("://", "+psycopg://", 1)))\n',
    ),
]


def test_a_shop_takes_in_headrace(tmp_path, empty_database_url):
    shop = Project(tmp_path / "shop", "shop", "library.md")
    if not CLASHES:
        models = shop.folder / "models.py"
        models.write_text(models.read_text().replace('"threads"', '"forum_threads"'))
    shop.set(DATABASE_URL=empty_database_url, HEADRACE_PROCESSES="1")

    # As it was: its own tests pass. They write in the forum.
    shop.run("pytest", "-q", "tests")
    old = {"id": 1, "title": "Tea"}
    assert forum(empty_database_url) == [("Tea",)]

    for file, before, after in ADOPTIONS:
        shop.edit(file, before, after)
    if CLASHES:
        shop.set(**{SCHEMA: "headrace"})
    shop.run("headrace", "db", "upgrade")
    shop.run("pytest", "-q", "tests")

    with shop.serving("uvicorn", "main:app", ready="/agents/ok") as url:
        use(url, old)
        strangers_are_refused(url)
    with shop.serving("headrace", "serve", "--app=main:app", ready="/agents/readyz") as url:
        use(url, old)
    assert forum(empty_database_url) == [("Tea",)]


def test_the_same_app_in_development_needs_no_database(tmp_path):
    shop = Project(tmp_path / "shop", "shop", "library.md")
    shop.set(HEADRACE_PROCESSES="1")
    models = shop.folder / "models.py"
    if CLASHES:
        shop.set(**{SCHEMA: "headrace"})
    else:
        models.write_text(models.read_text().replace('"threads"', '"forum_threads"'))
    for file, before, after in ADOPTIONS:
        shop.edit(file, before, after)
    with shop.serving("headrace", "dev", "--app=main:app", ready="/agents/readyz") as url:
        made = httpx.post(f"{url}/threads", json={"title": "Tea"}).json()
        use(url, made)
        log = (shop.folder / "log").read_text()
        assert "app main:app" in log
        assert "/chat -H" not in log


def use(url: str, old: dict[str, object]) -> None:
    """What the shop had still works, and the API is there beside it."""
    answer = httpx.get(f"{url}/threads/{old['id']}")
    assert (answer.json(), answer.headers["x-shop"]) == (old, "open")
    replies = [
        httpx.post(f"{url}/chat", json={"message": "hi", "thread_id": url}, timeout=20).json()
        for _ in range(2)
    ]
    assert [one["reply"] for one in replies] == ["message 1: hi", "message 2: hi"]
    asyncio.run(use_api(f"{url}/agents"))


async def use_api(url: str) -> None:
    said: dict[str, Any] = {"messages": [{"role": "user", "content": "over the API"}]}
    async with get_client(url=url) as client:
        thread = await client.threads.create()
        values: Any = await client.runs.wait(thread["thread_id"], "agent", input=said)
        assert values["messages"][-1]["content"] == "message 1: over the API"
        events = client.runs.stream(thread["thread_id"], "agent", input=said, stream_mode="values")
        assert [part.event async for part in events][-1] == "end"
        state: Any = await client.threads.get_state(thread["thread_id"])
        assert len(state["values"]["messages"]) == 4
    async with httpx.AsyncClient(base_url=url) as plain:
        path = f"/threads/{thread['thread_id']}/runs/wait"
        waited = await plain.post(path, json={"assistant_id": "agent", "input": said})
        assert waited.headers["location"].startswith("/agents/threads/")
        assert waited.headers["x-shop"] == "open"


def strangers_are_refused(url: str) -> None:
    answer = httpx.post(f"{url}/agents/threads", json={}, headers={"X-Forwarded-For": "127.0.0.1"})
    assert (answer.status_code, answer.json()["code"]) == (403, "stranger_refused")


def forum(database_url: str) -> list[tuple[str]]:
    name = "threads" if CLASHES else "forum_threads"
    with psycopg.connect(database_url) as connection:
        return connection.execute(f"SELECT title FROM public.{name}").fetchall()
