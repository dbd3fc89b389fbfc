"""The graph and the pool outside of requests, over a WebSocket, and in a script."""

import psycopg
import pytest
from fastapi import BackgroundTasks, FastAPI, Request, WebSocket
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.testclient import TestClient

import headrace
from headrace.edge.state import NotStarted
from headrace.errors import AssistantNotFound
from headrace.settings import Settings
from headrace.testing import PostgresServer, client
from tests.support.graphs.forms import ctx

THREAD = "0199c0de-0000-7000-8000-000000000001"


@pytest.fixture
def settings(database_url):
    return Settings.model_validate({"database": {"url": SecretStr(database_url)}})


def config(thread_id: str):
    return {"configurable": {"thread_id": thread_id}}


async def test_a_script_has_graph_pool_and_store_and_takes_no_runs(settings, database_url):
    lifespan = headrace.lifespan(graphs={"agent": ctx}, settings=settings)
    async with lifespan as runtime:
        await runtime.graph("agent").ainvoke({}, config(THREAD))
        await runtime.store.aput(("notes",), "a", {"text": "kept"})
        async with runtime.pool.connection() as connection:
            cursor = await connection.execute("SELECT count(*) FROM processes")
            assert await cursor.fetchone() == (0,)
        async with AsyncSession(runtime.engine) as session:
            assert await session.scalar(text("SELECT 1")) == 1
        with pytest.raises(AssistantNotFound):
            runtime.graph("nobody")
        with pytest.raises(RuntimeError, match="entered already"):
            async with lifespan:
                pass
    async with lifespan as again:
        state = await again.graph("agent").aget_state(config(THREAD))
        assert state.created_at is not None
        item = await again.store.aget(("notes",), "a")
        assert item is not None
        assert item.value == {"text": "kept"}
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        ).fetchone()
    assert row == (1,), "what the script opened is closed"


def app_of(settings) -> FastAPI:
    app = FastAPI(lifespan=headrace.lifespan(graphs={"agent": ctx}, settings=settings))
    app.include_router(headrace.router)

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await headrace.graph(websocket, "agent").ainvoke({}, config("over a socket"))
        await websocket.send_json(headrace.Runtime.of(websocket).pool.max_size)
        await websocket.close()

    @app.post("/later")
    async def later(tasks: BackgroundTasks, request: Request) -> None:
        tasks.add_task(headrace.graph(request, "agent").ainvoke, {}, config(THREAD))

    return app


def test_a_websocket_and_a_background_task_reach_the_graph(settings, database_url):
    with TestClient(app_of(settings)) as asking:
        with asking.websocket_connect("/socket") as websocket:
            assert websocket.receive_json() == settings.database.pool_max
        asking.post("/later")
    with psycopg.connect(database_url) as connection:
        found = connection.execute("SELECT DISTINCT thread_id FROM checkpoints").fetchall()
    assert {row[0] for row in found} == {"over a socket", THREAD}


async def test_what_a_graph_has_written_past_the_api_is_told_of(settings):
    async with client(app_of(settings)) as asking:
        unknown = await asking.get(f"/threads/{THREAD}")
        assert unknown.json()["detail"] == f"Thread with ID {THREAD} not found"
        await asking.post("/later")
        for path in ("", "/state", "/history"):
            answer = await asking.get(f"/threads/{THREAD}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "thread_not_found")
            assert "`headrace db adopt`" in answer.json()["detail"]
        made = await asking.post("/threads", json={"thread_id": THREAD})
        assert made.status_code == 200
        assert (await asking.get(f"/threads/{THREAD}/history")).json() != []


async def test_an_app_without_the_lifespan_is_told_so(settings):
    app = FastAPI()

    @app.get("/graph")
    async def graph(request: Request) -> str:
        with pytest.raises(NotStarted, match=r"headrace\.lifespan"):
            headrace.graph(request, "agent")
        return "refused"

    async with client(app) as asking:
        assert (await asking.get("/graph")).json() == "refused"
    with pytest.raises(NotStarted):
        headrace.Runtime.of({"cache": 1})


async def test_what_the_start_of_an_app_raises_comes_out_of_the_client():
    app = FastAPI(lifespan=headrace.lifespan(graphs={}))
    with pytest.raises(headrace.errors.StartupRefusal, match="HR104"):
        async with client(app):
            pass


def test_the_public_names_are_few():
    assert set(headrace.__all__) == {
        "Middleware",
        "Runtime",
        "Settings",
        "__version__",
        "graph",
        "lifespan",
        "router",
    }
    assert set(headrace.__all__) <= set(dir(headrace))
    assert {name: getattr(headrace, name) for name in headrace.__all__}
    with pytest.raises(AttributeError, match="grph"):
        getattr(headrace, "grph")  # noqa: B009 - type checkers refuse the plain form


def test_a_template_can_be_copied_while_somebody_holds_a_connection_to_it(postgres):
    server = PostgresServer(postgres.dsn())
    with server.new_database("template0") as template:
        held = psycopg.connect(server.url_of(template))
        server.freeze(template)
        with server.new_database(template) as copy, psycopg.connect(server.url_of(copy)) as used:
            assert used.execute("SELECT 1").fetchone() == (1,)
        held.close()


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("postgresql://ada:secret@db:5432/postgres", "postgresql://ada:secret@db:5432/x"),
        ("postgresql://db", "postgresql://db/x"),
        ("postgresql:///postgres?host=/tmp", "postgresql:///x?host=/tmp"),
        ("postgresql://postgres@/p?host=%2Ft&port=1", "postgresql://postgres@/x?host=%2Ft&port=1"),
    ],
)
def test_the_url_of_another_database(url, other):
    assert PostgresServer(url).url_of("x") == other


def test_a_setting_that_is_none_is_not_passed_over():
    assert headrace.Settings(chat_graph="agent", database={"pool_max": 5}).database.pool_max == 5
    with pytest.raises(TypeError, match=r"no .api_key.; docs/configuration\.md"):
        headrace.Settings(api_key="a-key-of-the-tests-1")
