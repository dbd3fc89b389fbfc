"""What a caller has planted in every input of the API is nowhere in a dump after the purge."""

import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.db.statements import TABLES
from headrace.db.tables import RunRow
from headrace.erasure.decisions import ERASED, KEPT
from headrace.erasure.purge import purge
from headrace.erasure.store_scope import store_condition
from headrace.erasure.subject import Subject
from headrace.graphs.user_label import user_label
from headrace.observability.masking import mask_secrets
from tests.support.database import database_settings
from tests.support.live import LiveServer
from tests.support.roles import as_server
from tests.support.waiting import wait_until

HI = {"messages": [{"role": "user", "content": "hi"}]}
#: Tables with rows that say whose they are.
OWNED = ("threads", "runs", "assistants", "crons", "webhook_deliveries", "run_usage")

NOTES = (("notes", "{user}"), ("notes", "*", "{user}"))


@pytest.fixture
def database(module_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(module_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def client(module_server: LiveServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=module_server.url, timeout=30) as client:
        yield client


def plant(client: httpx.Client, word: str, *, owner: str) -> dict[str, Any]:
    """Say the word wherever a caller may say something."""

    def post(path: str, body: Any, **headers: str) -> Any:
        answer = client.post(path, json=body, headers=headers)
        assert answer.status_code < 300, answer.text
        return answer.json()

    thread = str(uuid4())
    said = {"messages": [{"role": "user", "content": word}]}
    post(
        "/threads",
        {"thread_id": thread, "metadata": {"note": word}},
        **{"Idempotency-Key": f"thread {word}"},
    )
    configured = {
        "config": {"configurable": {"note": word}, "tags": [word]},
        "metadata": {"note": word},
        "webhook": f"https://hooks.example/{word}",
    }
    made = post(
        "/assistants",
        {
            "graph_id": "agent",
            "name": word,
            "description": word,
            "metadata": {"note": word},
            "config": {"configurable": {"note": word}},
        },
    )
    client.patch(f"/assistants/{made['assistant_id']}", json={"name": f"{word} again"})
    run = {"assistant_id": made["assistant_id"], "input": said, "stream_resumable": True}
    run |= configured
    answer = client.post(
        f"/threads/{thread}/runs/stream", json=run, headers={"Idempotency-Key": word}
    )
    assert word in answer.text
    post("/runs/wait", {"assistant_id": "agent", "input": said, **configured})
    post("/runs/wait", {"assistant_id": "agent", "input": said, "on_completion": "keep"})
    post(f"/threads/{thread}/state", {"values": said, "as_node": "reply"})
    failing = {"assistant_id": "boom", "input": {"topic": word}}
    client.post(f"/threads/{thread}/runs/wait", json=failing)
    post(f"/threads/{thread}/runs/wait", {"assistant_id": "hitl", "input": {"topic": word}})
    post("/chat", {"message": word, "thread_id": str(uuid4())})
    post("/runs/crons", {"assistant_id": "agent", "schedule": "0 0 1 1 *", "input": said})
    post(
        f"/threads/{thread}/runs/crons",
        {"assistant_id": "agent", "schedule": "0 0 1 1 *", "input": said, "metadata": {"n": word}},
    )
    item = {"namespace": ["memories", owner, word], "key": word, "value": {"text": word}}
    assert client.put("/store/items", json=item).status_code == 204
    return {"thread_id": thread, "assistant_id": made["assistant_id"]}


def hand_over(database: psycopg.Connection[Any], word: str, owner: str) -> None:
    """Make the rows of the anonymous caller another owner's."""
    for table in OWNED:
        database.execute(
            sql.SQL("UPDATE {} SET owner = %s WHERE owner = 'anonymous'").format(
                sql.Identifier(table)
            ),
            (owner,),
        )


def dump(database: psycopg.Connection[Any]) -> bytes:
    """Every table in every schema that is not Postgres's own, as COPY writes it."""
    found = database.execute(
        "SELECT nspname, relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind IN ('r', 'p', 'm') AND nspname !~ '^pg_|^information_schema$'"
    ).fetchall()
    assert len(found) > 15
    text = b""
    for place in found:
        with database.cursor().copy(
            sql.SQL("COPY (SELECT * FROM {}) TO STDOUT").format(sql.Identifier(*place))
        ) as rows:
            text += f"\n-- {place[1]}\n".encode() + b"".join(bytes(row) for row in rows)
    return text


def tables_with(database: psycopg.Connection[Any], word: str) -> set[str]:
    """The tables that have the word, also in their bytes (COPY writes these in hex)."""
    parts = dump(database).split(b"\n-- ")[1:]
    forms = (word.encode(), word.encode().hex().encode())
    return {
        part.split(b"\n", 1)[0].decode() for part in parts if any(form in part for form in forms)
    }


def command(url: str, *arguments: str) -> Any:
    environment = {"DATABASE_URL": as_server(url), "COLUMNS": "200"}
    return CliRunner().invoke(app, ["purge", *arguments], env=environment)


def test_each_table_has_a_decision() -> None:
    """A new table is erased, or nobody's words are in it."""
    assert set(ERASED).isdisjoint(KEPT)
    assert set(TABLES) | set(RunRow.metadata.tables) <= {*ERASED, *KEPT}


def test_nothing_of_a_user_is_in_a_dump_and_all_of_another_one_is(
    module_server: LiveServer, module_database: str, database, client
) -> None:
    bobs = plant(client, "bobsword", owner="bob")
    hand_over(database, "bobsword", "bob")
    of_bob = {name: _rows_of(database, name, "bob") for name in OWNED}
    canary = f"canary{uuid4().hex}"
    plant(client, canary, owner="anonymous")
    planted = tables_with(database, canary)
    wanted = {"threads", "runs", "run_events", "checkpoints", "checkpoint_writes", "assistants"}
    wanted |= {"assistant_versions", "crons", "idempotency_keys", "store", "webhook_deliveries"}
    assert wanted <= planted

    counted = json.loads(
        command(module_database, "--user", "anonymous", "--dry-run", "--json").stdout
    )
    assert counted["dry_run"]
    assert counted["rows"]["threads"] >= 3
    assert counted["rows"]["store"] == 1
    assert tables_with(database, canary) == planted

    refused = command(module_database, "--user", "anonymous")
    assert refused.exit_code == 2
    assert "give --yes" in refused.stderr
    done = command(module_database, "--user", "anonymous", "--yes", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert rows == {**counted["rows"], "run_events": rows["run_events"]}
    assert tables_with(database, canary) == set()
    assert "bobsword" in dump(database).decode()
    assert of_bob == {name: _rows_of(database, name, "bob") for name in OWNED}
    assert "bobsword" in client.get(f"/threads/{bobs['thread_id']}/history").text
    # Again: there is nothing, and that is no error.
    again = json.loads(command(module_database, "--user", "anonymous", "--yes", "--json").stdout)
    assert sum(again["rows"].values()) == 0


def test_nothing_that_a_user_has_said_beside_a_run_stays_on_the_thread_of_another_one(
    module_database: str, database, client
) -> None:
    canary = f"canary{uuid4().hex}"
    thread = client.post("/threads", json={}).json()["thread_id"]
    run = {"assistant_id": "stepwise", "input": HI}
    said = {
        "metadata": {"note": canary, "number": 7},
        "config": {"configurable": {"openai_api_key": canary}, "metadata": {"also": canary}},
    }
    for body in (run, run | said):
        assert client.post(f"/threads/{thread}/runs/wait", json=body).status_code == 200
    newest = "run_id = (SELECT max(run_id::text)::uuid FROM runs WHERE thread_id = %s)"
    database.execute("UPDATE threads SET owner = 'bob' WHERE thread_id = %s", (thread,))
    database.execute("UPDATE runs SET owner = 'bob' WHERE thread_id = %s", (thread,))
    database.execute(f"UPDATE runs SET owner = 'ada' WHERE {newest}", (thread,))
    assert {"threads", "runs", "checkpoints"} <= tables_with(database, canary)
    before = client.get(f"/threads/{thread}/history").json()

    assert command(module_database, "--user", "ada", "--yes").exit_code == 0
    assert tables_with(database, canary) == set()
    assert client.get(f"/threads/{thread}").json()["config"] == {}
    after = client.get(f"/threads/{thread}/history").json()
    for state, kept in zip(before, after, strict=True):
        assert [state[name] for name in ("values", "next", "parent_checkpoint")] == [
            kept[name] for name in ("values", "next", "parent_checkpoint")
        ]
        needed = ("source", "step", "parents", "run_id", "graph_id")
        assert [state["metadata"].get(n) for n in needed] == [
            kept["metadata"].get(n) for n in needed
        ]
    answer = client.post(f"/threads/{thread}/runs/wait", json=run).json()
    assert len(answer["messages"]) == 6


def _rows_of(database: psycopg.Connection[Any], table: str, owner: str) -> list[Any]:
    # Deliveries are tried again meanwhile.
    ignored = ("tries", "due_at", "problem", "state", "settled_at")
    rows = database.execute(
        sql.SQL("SELECT to_jsonb(t) FROM {} AS t WHERE owner = %s ORDER BY t::text").format(
            sql.Identifier(table)
        ),
        (owner,),
    ).fetchall()
    found = [{k: v for k, v in row.items() if k not in ignored} for (row,) in rows]
    return sorted(found, key=str)


def test_runs_under_way_are_stopped_first(
    module_server: LiveServer, module_database: str, database, client
) -> None:
    thread = client.post("/threads", json={}).json()["thread_id"]
    body = {"assistant_id": "slow", "input": {"seconds": 20}}
    running = client.post(f"/threads/{thread}/runs", json=body).json()["run_id"]
    waiting = client.post(
        f"/threads/{thread}/runs", json={**body, "multitask_strategy": "enqueue"}
    ).json()["run_id"]
    status = "SELECT status FROM runs WHERE run_id = %s"
    wait_until(lambda: database.execute(status, (running,)).fetchone() == ("running",))
    began = time.monotonic()
    with capture_logs() as lines:
        done = purge(
            database_settings(as_server(module_database)),
            Subject("default", "anonymous"),
            dry_run=False,
        )
    assert done.left == {}
    assert time.monotonic() - began < 15
    (line,) = (line for line in lines if line["event"] == "rows_purged")
    assert "anonymous" not in str(line)
    for run_id in (running, waiting):
        assert database.execute(status, (run_id,)).fetchone() is None
    # The server goes on.
    answer = client.post("/runs/wait", json={"assistant_id": "agent", "input": HI})
    assert answer.json()["messages"][-1]["content"] == "message 1"


def test_the_log_has_the_number_of_deleted_keys(module_database: str, database) -> None:
    database.execute(
        "INSERT INTO api_keys (id, prefix, sha256, tenant, owner, scopes)"
        " VALUES (gen_random_uuid(), 'hr_0', '\\x00', 'default', 'keyed', '{}')"
    )
    with capture_logs() as lines:
        purge(
            database_settings(as_server(module_database)),
            Subject("default", "keyed"),
            dry_run=False,
        )
    (line,) = (dict(line) for line in lines if line["event"] == "rows_purged")
    assert mask_secrets(None, "info", line)["api_keys_rows"] == 1
    fields = {f"{table}_rows": 1 for table in ERASED}
    assert mask_secrets(None, "info", dict(fields)) == fields


def test_usage_is_counted_without_its_owner(module_database: str, database) -> None:
    database.execute(
        "INSERT INTO run_usage (run_id, attempt, model, owner, thread_id, assistant_id, graph_id,"
        " input_tokens) VALUES (gen_random_uuid(), 1, 'gpt-5', 'ada', 'adas', gen_random_uuid(),"
        " 'agent', 7)"
    )
    assert command(module_database, "--user", "ada", "--yes").exit_code == 0
    kept = database.execute(
        "SELECT owner, thread_id, input_tokens FROM run_usage WHERE model = 'gpt-5'"
    ).fetchall()
    assert kept == [("", "", 7)]


def test_a_tenant_goes_as_a_whole(module_database: str, database) -> None:
    for tenant in ("acme", "acme-corp"):
        database.execute(
            "INSERT INTO threads (thread_id, tenant, owner) VALUES (%s, %s, 'ada')",
            (f"of {tenant}", tenant),
        )
        database.execute(
            "INSERT INTO run_usage (run_id, attempt, model, tenant, owner, thread_id, assistant_id,"
            " graph_id) VALUES (gen_random_uuid(), 1, 'm', %s, 'ada', 't', gen_random_uuid(), 'a')",
            (tenant,),
        )
        for label in (tenant, f"{tenant}/ada"):
            database.execute(
                "INSERT INTO store (prefix, key, value) VALUES (%s, 'k', '{}')",
                (f"__headrace__.{label}.notes",),
            )
    assert command(module_database, "--tenant", "acme", "--yes").exit_code == 0
    left = database.execute(
        "SELECT thread_id FROM threads WHERE tenant LIKE 'acme%'"
        " UNION ALL SELECT tenant FROM run_usage WHERE tenant LIKE 'acme%'"
        " UNION ALL SELECT prefix FROM store WHERE prefix LIKE '%acme%'"
    ).fetchall()
    assert sorted(row[0] for row in left) == [
        "__headrace__.acme-corp.notes",
        "__headrace__.acme-corp/ada.notes",
        "acme-corp",
        "of acme-corp",
    ]


@pytest.mark.parametrize(
    ("prefix", "subject", "found"),
    [
        ("memories.ada", Subject("default", "ada"), True),
        ("memories.ada.facts", Subject("default", "ada"), True),
        ("memories.bob.ada", Subject("default", "ada"), False),
        ("ada.memories", Subject("default", "ada"), False),
        ("notes.ada", Subject("default", "ada"), False),
        ("memories.bob", Subject("default", "memories"), False),
        ("memories.bob", Subject("default", "memories.bob"), False),
        ("memories", Subject("default", "memories"), False),
        ("memories.memories", Subject("default", "memories"), True),
        (f"memories.{user_label('a@b.de')}", Subject("default", "a@b.de"), True),
        ("notes.ada", Subject("default", "ada", NOTES), True),
        ("notes.acme.ada.x", Subject("default", "ada", NOTES), True),
        ("notes.acme.bob.ada", Subject("default", "ada", NOTES), False),
        ("memories.ada2", Subject("default", "ada"), False),
        ("memories.a_a", Subject("default", "ada"), False),
        ("__headrace__.default/ada.notes", Subject("default", "ada"), True),
        ("__headrace__.default/adam.notes", Subject("default", "ada"), False),
        ("__headrace__.acme/ada.notes", Subject("default", "ada"), False),
        ("__headrace__.acme.memories.ada", Subject("acme", "ada"), True),
        ("__headrace__.acme.notes.ada", Subject("acme", "ada"), False),
        ("__headrace__.acme.notes.ada", Subject("acme", "ada", NOTES), True),
        ("__headrace__.acme.notes.bob", Subject("acme", "acme"), False),
        ("__headrace__.acme.notes.ada", Subject("default", "ada", NOTES), False),
        ("__headrace__.acme/a@b%2Ede.notes", Subject("acme", "a@b.de"), True),
        ("notes.bob", Subject("acme"), False),
        ("notes.bob", Subject("default"), True),
        ("__headrace__.acme.notes", Subject("default"), False),
        ("__headrace__.default/ada.notes", Subject("default"), True),
    ],
)
def test_items_are_found_by_their_namespaces(
    database, prefix: str, subject: Subject, found: bool
) -> None:
    condition, values = store_condition(subject)
    row = database.execute(
        f"SELECT {condition} FROM (SELECT %(prefix)s::text AS prefix) AS item",
        {**values, "prefix": prefix},
    ).fetchone()
    assert row == (found,)


def test_a_user_who_is_called_as_a_label_takes_no_items_of_others(
    module_database: str, database
) -> None:
    database.execute("DELETE FROM store")
    shared = ["memories.bob", "memories.carol", *(f"notes.{n:02}.memories" for n in range(22))]
    for prefix in ("memories.memories", *shared):
        database.execute("INSERT INTO store (prefix, key, value) VALUES (%s, 'k', '{}')", (prefix,))
    user = ("--user", "memories")
    found = json.loads(command(module_database, *user, "--dry-run", "--json").stdout)
    listed = found["shared_namespaces"]
    assert found["rows"]["store"] == 1
    assert listed["of_user"] == {
        "namespaces": [{"namespace": ["memories", "memories"], "items": 1}],
        "more": 0,
    }
    assert {"namespace": ["memories", "bob"], "items": 1} in listed["doubtful"]["namespaces"]
    assert (len(listed["doubtful"]["namespaces"]), listed["doubtful"]["more"]) == (20, 4)

    done = command(module_database, *user, "--yes")
    assert done.exit_code == 0, done.output
    for line in ("give --namespace", "  memories.memories (1)", "  and 4 more namespaces"):
        assert line in done.stdout
    left = "SELECT prefix FROM store WHERE prefix ~ 'memories' ORDER BY prefix"
    assert [row[0] for row in database.execute(left)] == sorted(shared)

    named = ("--namespace", "notes.*.{user}")
    assert command(module_database, *user, *named, "--yes").exit_code == 0
    assert [row[0] for row in database.execute(left)] == ["memories.bob", "memories.carol"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name whom to erase"),
        (["--tenant", "system", "--yes"], "headrace's own"),
        (["--user", "a\nb", "--yes"], "characters that no name has"),
        (["--user", "ada", "--namespace", "notes", "--yes"], "{user} as one of them"),
        (["--user", "ada", "--namespace", "notes..{user}", "--yes"], "{user} as one of them"),
        (["--tenant", "acme", "--namespace", "notes.{user}", "--yes"], "is for --user"),
    ],
)
def test_what_names_nobody_is_refused(
    module_database: str, arguments: list[str], sentence: str
) -> None:
    refused = command(module_database, *arguments)
    assert refused.exit_code == 2
    assert sentence in refused.stderr
