"""``HEADRACE_DATABASE__SCHEMA``: beside an application that has every one of headrace's names.

In the application's schema each name is a table of other columns, so a statement that does not name
headrace's schema fails, or shows in what the application has.
"""

import ast
import asyncio
import re
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from langgraph_sdk.client import LangGraphClient
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.database_settings import DatabaseSettings
from headrace.db.migrate import adopt, drift, upgrade
from headrace.db.schema import ensure_compatible, known_revisions, state
from headrace.db.statements import TABLES, statement, use_schema
from headrace.db.table_base import Base
from headrace.errors import StartupRefusal
from headrace.ids import uuid7
from headrace.server.lifespan import lifespan
from headrace.settings import Settings, unknown_variables
from tests.migrations.catalog import UPSTREAMS_TABLES
from tests.migrations.commands import run_headrace
from tests.support.apps import app_client
from tests.support.database import database_settings, open_pool
from tests.support.graphs.graphs import agent
from tests.support.live import GRAPHS
from tests.support.sources import modules

HEAD = known_revisions()[-1]
SCHEMA = "my-agents"
QUOTED = f'"{SCHEMA}"'


@pytest.fixture
def shared_database_url(empty_database_url: str) -> str:
    """A database of an application that has all of the names, and headrace in a schema beside."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        for name in TABLES:
            connection.execute(f"CREATE TABLE public.{name} (theirs text)".encode())
            connection.execute(f"INSERT INTO public.{name} VALUES ('mine')".encode())
    assert upgrade(database_settings(empty_database_url, schema=SCHEMA)) == HEAD
    return empty_database_url


def theirs(url: str) -> set[str]:
    """The tables of the application that are as they were."""
    with psycopg.connect(url) as connection:
        return {
            name
            for name in TABLES
            if connection.execute(f"SELECT * FROM public.{name}".encode()).fetchall() == [("mine",)]
        }


def own(url: str, query: str) -> list:
    with psycopg.connect(url, autocommit=True) as connection:
        use_schema(connection, SCHEMA)
        return connection.execute(statement(query)).fetchall()


def settings_of(url: str, **more: object) -> Settings:
    return Settings.model_validate(
        {
            "config": GRAPHS,
            "server": {"grace_seconds": 0},
            "database": {"url": SecretStr(url), "schema": SCHEMA},
            **more,
        }
    )


@asynccontextmanager
async def sdk_on(settings: Settings):
    async with app_client(settings) as client:
        yield LangGraphClient(client), client


#: A graph has run under this id, past the API.
LONE = str(uuid4())


async def sweep(http: httpx.AsyncClient) -> None:
    """Until threads, runs and items whose time is over are gone."""
    made = await http.post("/threads", json={"ttl": {"ttl": 0.0001, "strategy": "delete"}})
    path = f"/threads/{made.json()['thread_id']}"
    async with asyncio.timeout(20):
        while (await http.get(path)).status_code == 200:
            await asyncio.sleep(0.05)
        while "headrace_store_items_expired_total 0.0" in (await http.get("/metrics")).text:
            await asyncio.sleep(0.05)


async def use_everything(sdk: LangGraphClient, http) -> None:
    """Every room, so that every statement is sent."""
    thread = await sdk.threads.create(metadata={"case": "own"})
    id_ = thread["thread_id"]
    said: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
    first = await sdk.runs.wait(id_, "agent", input=said)
    assert isinstance(first, dict)
    assert first["messages"][0]["content"] == "hi"
    events = [
        part.event
        async for part in sdk.runs.stream(
            id_, "agent", input=said, stream_mode=["values"], stream_resumable=True
        )
    ]
    assert events[-1] in ("values", "end")
    values: Any = (await sdk.threads.get_state(id_))["values"]
    assert len(values["messages"]) >= 2
    assert len(await sdk.threads.get_history(id_)) > 2
    await sdk.threads.update_state(id_, {"messages": [{"role": "user", "content": "by hand"}]})
    assert [one["thread_id"] for one in await sdk.threads.search(metadata={"case": "own"})] == [id_]
    assert await sdk.threads.search(status="idle", values={"no": 1}) == []
    assert await sdk.threads.count(metadata={"case": "own"}) == 1
    await sdk.threads.copy(id_)
    await sdk.threads.update(id_, metadata={"more": 1}, ttl=60)
    assert len(await sdk.runs.list(id_)) == 2
    named: Any = (await sdk.threads.get_state(id_))["checkpoint"]
    went_on: Any = await sdk.runs.wait(id_, "agent", input=said, checkpoint=named)
    assert len(went_on["messages"]) == len(values["messages"]) + 3
    missing = {**named, "checkpoint_id": str(uuid7())}
    refused = await http.post(
        f"/threads/{id_}/runs/wait", json={"assistant_id": "agent", "checkpoint": missing}
    )
    assert refused.status_code == 404, refused.text
    queued = await sdk.runs.create(id_, "agent", input=said, after_seconds=1000)
    await sdk.runs.cancel(id_, queued["run_id"])
    slow = await sdk.runs.create(id_, "slow", input=said)
    await sdk.runs.create(id_, "agent", input=said, multitask_strategy="interrupt")
    await sdk.runs.join(id_, slow["run_id"])
    shown: Any = {"configurable": {"shown": "by the thread"}}
    last = await sdk.runs.create(id_, "agent", input=said, config=shown)
    await sdk.runs.join(id_, last["run_id"])
    told: Any = await sdk.threads.get(id_)
    assert told["config"] == shown
    await sdk.runs.delete(id_, last["run_id"])
    told = await sdk.threads.get(id_)
    assert told["config"] != shown
    await sdk.runs.create(id_, "slow", input=said)
    await sdk.runs.wait(id_, "agent", input=said, multitask_strategy="rollback")
    assert await sdk.runs.wait(None, "agent", input=said)
    await sdk.runs.wait(id_, "memo", input={"topic": "rivers"})
    for mode in ("delete", "keep_latest"):
        answer = await http.post("/threads/prune", json={"thread_ids": [], "strategy": mode})
        assert answer.status_code < 500, answer.text
    assistant = await sdk.assistants.create("agent", name="mine")
    await sdk.assistants.update(assistant["assistant_id"], name="yours")
    assert len(await sdk.assistants.get_versions(assistant["assistant_id"])) == 2
    await sdk.assistants.set_latest(assistant["assistant_id"], 1)
    assert await sdk.assistants.search(graph_id="agent")
    await sdk.assistants.delete(assistant["assistant_id"])
    await sdk.store.put_item(["users", "ada"], "k", {"v": 1}, ttl=5)
    item = await sdk.store.get_item(["users", "ada"], "k", refresh_ttl=True)
    assert item["value"] == {"v": 1}
    assert (await sdk.store.search_items(["users"], filter={"v": 1}))["items"]
    namespaces = (await sdk.store.list_namespaces())["namespaces"]
    assert sorted(namespaces) == [["topics"], ["users", "ada"]]
    await sdk.store.delete_item(["users", "ada"], "k")
    asked = {"message": "hello", "thread_id": "mine"}
    keyed = {"Idempotency-Key": "one"}
    answers = [await http.post("/chat", json=asked, headers=keyed) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
    assert (await http.get("/health")).json()["status"] == "ready"
    lone = await http.get(f"/threads/{LONE}")
    assert (lone.status_code, "headrace db adopt" in lone.json()["detail"]) == (404, True)
    await sweep(http)
    await sdk.threads.delete(id_)


@pytest.mark.parametrize("engine", ["group_commit", "upstream"])
async def test_no_statement_touches_the_applications_tables(engine, shared_database_url, capfd):
    settings = settings_of(
        shared_database_url,
        checkpointer={"engine": engine},
        retention={"run_minutes": 1, "thread_minutes": 1000, "sweep_minutes": 0.005},
        # A busy machine may block the loop, which is no trouble with tables.
        server={"grace_seconds": 0, "stall_log_seconds": 60},
    )
    lone = f"INSERT INTO checkpoints VALUES ('{LONE}', '', 'c', NULL, NULL, '{{}}') RETURNING 1"
    assert own(shared_database_url, lone) == [(1,)]
    expired = (
        "INSERT INTO store (prefix, key, value, expires_at, ttl_minutes)"
        " VALUES ('old', 'k', '{}', now() - interval '1 day', 1) RETURNING 1"
    )
    assert own(shared_database_url, expired) == [(1,)]
    async with sdk_on(settings) as (sdk, http):
        await use_everything(sdk, http)
        rows = await asyncio.to_thread(own, shared_database_url, "SELECT count(*) FROM processes")
        assert rows == [(1,)]
    assert theirs(shared_database_url) == set(TABLES)
    told = "".join(capfd.readouterr())
    assert "run_ended" in told
    for trouble in ("does not exist", "Undefined", '"level":"error"', "task_failed"):
        assert trouble not in told


async def test_models_of_users_mean_their_own_tables(shared_database_url):
    """Over headrace's engine too, whose own statements mean headrace's schema."""
    settings = settings_of(shared_database_url)
    mine = sa.Table("threads", sa.MetaData(), sa.Column("theirs", sa.Text))
    async with (
        lifespan(graphs={"agent": agent}, settings=settings) as runtime,
        AsyncSession(runtime.engine) as session,
    ):
        assert (await session.scalars(sa.select(mine.c.theirs))).all() == ["mine"]
        said = sa.text("SELECT theirs FROM threads JOIN runs USING (theirs)")
        assert (await session.scalars(said)).all() == ["mine"]


async def test_what_users_send_over_the_pool_means_their_own_tables(shared_database_url):
    async with open_pool(shared_database_url, schema=SCHEMA) as pool:
        async with pool.connection() as connection:
            cursor = await connection.execute("SELECT theirs FROM threads JOIN runs USING (theirs)")
            assert await cursor.fetchall() == [("mine",)]
            cursor = await connection.execute("SHOW search_path")
            assert await cursor.fetchone() == ('"$user", public',)
        assert (await ensure_compatible(pool)).current == HEAD


def test_commands_work_on_the_schema(shared_database_url):
    settings = database_settings(shared_database_url, schema=SCHEMA)
    assert upgrade(settings) == HEAD
    assert drift(settings) is None
    with psycopg.connect(shared_database_url, autocommit=True) as connection:
        connection.execute(f"SET search_path = {QUOTED}")
        connection.execute(
            "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint) VALUES ('t', 'c', '{}')"
        )
    assert adopt(settings).threads == 1
    assert own(shared_database_url, "SELECT thread_id FROM threads") == [("t",)]
    answer = run_headrace(
        "db", "check", database_url=shared_database_url, HEADRACE_DATABASE__SCHEMA=SCHEMA
    )
    assert (answer.returncode, answer.stdout) == (0, f"schema {HEAD} ok\n"), answer.stderr
    assert theirs(shared_database_url) == set(TABLES)


def test_tables_that_stay_in_another_schema_are_told_of(database_url):
    answer = run_headrace(
        "db", "upgrade", database_url=database_url, HEADRACE_DATABASE__SCHEMA="agents"
    )
    assert answer.stdout == f"schema {HEAD} (from none)\n"
    assert answer.stderr.startswith("note: schema public has tables of headrace or LangGraph too")


def test_two_headraces_share_a_database(shared_database_url):
    second = database_settings(shared_database_url, schema="agents")
    assert state(second).current is None
    assert upgrade(second) == HEAD
    assert drift(second) is None
    assert state(database_settings(shared_database_url, schema=SCHEMA)).current == HEAD


@pytest.fixture
def role(empty_database_url) -> Iterator[tuple[str, str]]:
    """A role that may do nothing in the database, by name and as a URL."""
    name = f"role_{uuid4().hex[:8]}"
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN")
        yield name, make_conninfo("", **{**conninfo_to_dict(empty_database_url), "user": name})
        connection.execute(f"DROP OWNED BY {name} CASCADE")
        connection.execute(f"DROP ROLE {name}")


def test_a_role_is_told_what_it_needs(role, empty_database_url):
    name, url = role
    settings = database_settings(url, schema="agents")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        missing = rf'HR318 schema agents: .*CREATE SCHEMA "agents" AUTHORIZATION "{name}"'
        with pytest.raises(StartupRefusal, match=missing):
            upgrade(settings)
        connection.execute("CREATE SCHEMA agents")
        for _ in range(2):
            with pytest.raises(StartupRefusal, match="HR318 schema agents"):
                upgrade(settings)
            connection.execute(f"GRANT USAGE ON SCHEMA agents TO {name}")
        connection.execute(f"GRANT CREATE ON SCHEMA agents TO {name}")
        assert upgrade(settings) == HEAD
        connection.execute(f"REVOKE USAGE ON SCHEMA agents FROM {name}")
        with pytest.raises(StartupRefusal, match=r"HR318 .*GRANT USAGE ON SCHEMA"):
            state(settings)


def test_a_role_whose_path_leads_nowhere_is_told_so(role, empty_database_url):
    name, url = role
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {name} SET search_path = nowhere")
        with pytest.raises(StartupRefusal, match=r"HR318 .*\(nowhere\) leads to no schema"):
            upgrade(database_settings(url))


@pytest.mark.parametrize("name", ["agents; DROP", 'a"b', "1st", "pg_own", "ä", "a" * 64, "a.b"])
def test_a_name_that_no_schema_should_have_is_refused(name):
    with pytest.raises(ValidationError, match="schema"):
        DatabaseSettings.model_validate({"schema": name})


def test_the_setting_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("HEADRACE_DATABASE__SCHEMA", "agents")
    assert Settings().database.schema_name == "agents"
    assert unknown_variables() == []


def test_the_list_of_tables_is_whole():
    assert {*Base.metadata.tables, *UPSTREAMS_TABLES, "headrace_alembic_version"} <= set(TABLES)


def test_only_tables_that_a_statement_opens_are_qualified():
    class Context:
        connection = type("Connection", (), {"headrace_schema": "s"})()

    def in_schema(text: str) -> str:
        return statement(text).as_bytes(Context()).decode()  # type: ignore[arg-type]

    assert in_schema("SELECT threads.a FROM threads JOIN runs AS r USING (threads)") == (
        'SELECT threads.a FROM "s".threads JOIN "s".runs AS r USING (threads)'
    )
    for text in ("SELECT 1 FOR UPDATE OF threads", "SELECT a FROM store_items", "FROM threads2"):
        assert in_schema(text) == text
    assert in_schema("update store set x = 1") == 'update "s".store set x = 1'
    assert statement("FROM threads").as_bytes() == b"FROM threads"


def test_no_text_of_sql_is_sent_without_the_schema():
    """What opens a table in a string is a statement, unless a module puts several together."""
    # Put together here; made a statement by its repository, at its end, or by read_page.
    apart = {
        "src/headrace/threads/search_sql.py",
        "src/headrace/checkpoints/sized_reads_sql.py",
        "src/headrace/auth/row_scope.py",
        "src/headrace/checkpoints/store_roots.py",
        "src/headrace/checkpoints/queued_store.py",
        "src/headrace/checkpoints/vector_sql.py",
        "src/headrace/checkpoints/reindex.py",
        "src/headrace/erasure/decisions.py",
        "src/headrace/assistants/repository.py",
        "src/headrace/crons/repository.py",
        "src/headrace/runs/repository.py",
        "src/headrace/db/thread_configurations.py",
    }
    found = []
    for name, tree in modules().items():
        nodes = list(ast.walk(tree))
        made = [
            node
            for node in nodes
            if isinstance(node, ast.Call)
            # SQLAlchemy's engine makes one of every text.
            and (_named(node, "statement") or _named(node, "text"))
        ]
        said = [node for node in nodes if isinstance(node, ast.Expr)]  # docstrings
        passed = {id(part) for node in (*made, *said) for part in ast.walk(node)}
        found += [
            f"{name}:{node.lineno}"
            for node in nodes
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.search(rf"\b(FROM|JOIN|INTO|UPDATE|USING)\s+({'|'.join(TABLES)})\b", node.value)
            and id(node) not in passed
            and name not in apart
        ]
    assert found == []


def _named(call: ast.Call, name: str) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == name
