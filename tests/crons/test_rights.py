"""For whom the runs of a cron act: what its owner may reach, and who may change what they do."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.auth.principal import Principal
from headrace.crons.schemas import CronPatch
from headrace.errors import CronOfAnother, ThreadNotFound
from headrace.threads.schemas import ThreadCreate
from tests.support.apps import app_client, settings_for
from tests.support.crons import HELLO, YEARLY, create_cron, make_due, row_of, runs_of
from tests.support.doors import GRAPHS
from tests.support.graphs.graphs import agent
from tests.support.pair import open_states
from tests.support.waiting import eventually

#: A token is the name of a user. Threads are their owner's; a ``reader`` sees all, and starts runs
#: on its own. There are no handlers for crons. Users whom the file ``denied`` names start nothing.
AUTH = """
from pathlib import Path
from langgraph_sdk import Auth

auth = Auth()

@auth.authenticate
async def authenticate(authorization: str | None):
    return {"identity": (authorization or "nobody").removeprefix("Bearer "), "level": "of then"}

@auth.on.threads
async def own_threads(ctx, value):
    me = ctx.user.identity
    if ctx.action == "create_run" and me in Path(__file__).with_name("denied").read_text():
        return False
    if ctx.action == "create":
        value.setdefault("metadata", {})["owner"] = me
    if ctx.action == "read" and me == "reader":
        return None
    return {"owner": me}
"""


@pytest.fixture
def denied(tmp_path: Path) -> Path:
    path = tmp_path / "denied"
    path.write_text("")
    return path


@pytest.fixture
async def user(database_url, tmp_path, denied) -> AsyncIterator[Callable[[str], Any]]:
    """Requests of a user: ``await user("alice")("POST", path, body)``."""
    (tmp_path / "auth.py").write_text(AUTH)
    manifest = tmp_path / "langgraph.json"
    auth = {"path": f"{tmp_path}/auth.py:auth"}
    manifest.write_text(json.dumps({"graphs": {"speaks": f"{GRAPHS}:speaks"}, "auth": auth}))
    settings = settings_for(
        database_url, manifest, crons={"poll_seconds": 0.05, "retry_seconds": 0.2}
    )
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(app_client(settings))

        def asking(name: str) -> Callable[..., Any]:
            async def ask(method: str, path: str, body: Any = None) -> httpx.Response:
                headers = {"Authorization": f"Bearer {name}"}
                return await client.request(method, path, json=body, headers=headers)

            return ask

        yield asking


def wanted(**more: Any) -> dict[str, Any]:
    said = {"messages": [{"role": "user", "content": "hi"}]}
    return {"assistant_id": "speaks", "schedule": YEARLY, "input": said, **more}


async def made(user, path: str, body: dict[str, Any], *, name: str = "alice") -> dict[str, Any]:
    answer = await user(name)("POST", path, body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_handlers_are_asked_at_each_firing(user, database, denied):
    cron = await made(user, "/runs/crons", wanted(on_run_completed="keep"))
    make_due(database, cron["cron_id"])
    ((thread_id, *_, owner, kwargs),) = await eventually(lambda: runs_of(database, cron["cron_id"]))
    assert (owner, kwargs["auth"]["user"]["level"]) == ("alice", "of then")
    # The filter of the handler has made the thread hers.
    (metadata,) = database.execute(
        "SELECT metadata FROM threads WHERE thread_id = %s", (thread_id,)
    ).fetchone()
    assert metadata["owner"] == "alice"

    denied.write_text("alice")
    slot = make_due(database, cron["cron_id"], late="2 minutes")
    await eventually(lambda: row_of(database, cron["cron_id"])[0] != slot)
    assert len(runs_of(database, cron["cron_id"])) == 1
    denied.write_text("")
    make_due(database, cron["cron_id"])
    await eventually(lambda: len(runs_of(database, cron["cron_id"])) == 2)


async def test_a_thread_that_is_given_away_gets_no_run(user, database):
    thread = (await made(user, "/threads", {}))["thread_id"]
    cron = await made(user, f"/threads/{thread}/runs/crons", wanted())
    await user("alice")("PATCH", f"/threads/{thread}", {"metadata": {"owner": "bob"}})
    make_due(database, cron["cron_id"])
    await eventually(lambda: not row_of(database, cron["cron_id"])[2])
    assert "not found" in row_of(database, cron["cron_id"])[3]
    assert runs_of(database, cron["cron_id"]) == []


async def test_a_cron_whose_runs_would_find_no_thread_is_refused(user):
    """It may be read, but no run may be started on it."""
    thread = (await made(user, "/threads", {}))["thread_id"]
    read = await user("reader")("GET", f"/threads/{thread}")
    assert read.status_code == 200
    refused = await user("reader")("POST", f"/threads/{thread}/runs/crons", wanted())
    assert (refused.status_code, refused.json()["code"]) == (404, "thread_not_found")


@pytest.mark.parametrize(
    "change",
    [
        {"input": {"messages": [{"role": "user", "content": "tell me"}]}},
        {"webhook": "https://hooks.example/bob"},
        {"config": {"configurable": {"model": "bob's"}}},
        {"context": {"for": "bob"}},
        {"multitask_strategy": "rollback"},
    ],
)
async def test_another_user_changes_when_but_not_what(user, database, change):
    thread = (await made(user, "/threads", {}))["thread_id"]
    cron = await made(user, f"/threads/{thread}/runs/crons", wanted())
    path = f"/runs/crons/{cron['cron_id']}"
    before = (await user("alice")("GET", path)).json()
    refused = await user("bob")("PATCH", path, change)
    assert (refused.status_code, refused.json()["code"]) == (403, "cron_of_another")
    assert (await user("alice")("GET", path)).json() == before
    harmless = {"schedule": "0 9 * * *", "metadata": {"seen": "by bob"}, "enabled": False}
    changed = await user("bob")("PATCH", path, harmless)
    assert (changed.status_code, changed.json()["user_id"]) == (200, "alice")
    assert (await user("alice")("PATCH", path, change)).status_code == 200
    row = database.execute("SELECT owner, auth FROM crons").fetchone()
    assert (row[0], row[1]["user"]["identity"]) == ("alice", "alice")


ADA = Principal("ada", "acme", caller="tenant:acme")
#: Another key of hers, which sees what she owns.
LESS = Principal("ada", "acme", whole_tenant=False, caller="tenant:acme", permissions=("write",))
OPERATOR = Principal("operator", "acme", caller="tenant:acme")


async def test_what_a_lesser_key_lets_a_cron_do_is_done_with_its_rights(database, database_url):
    async with open_states(database_url, {"agent": agent}, count=1) as (one,):
        theirs = (await one.threads.create(OPERATOR, ThreadCreate())).thread_id
        shared = await create_cron(one.crons, owner=ADA, thread_id=theirs)
        alone = await create_cron(one.crons, owner=ADA)

        def auth(cron: Any) -> Any:
            return database.execute(
                "SELECT auth FROM crons WHERE cron_id = %s", (cron.cron_id,)
            ).fetchone()[0]

        more = CronPatch(input={"messages": [("user", "more")]})
        later = CronPatch(end_time=datetime(2099, 1, 1, tzinfo=UTC))
        await one.crons.update(LESS, alone.cron_id, later)
        await one.crons.update(LESS, alone.cron_id, CronPatch(input=HELLO))
        assert auth(alone) is None
        await one.crons.update(LESS, alone.cron_id, more)
        assert (auth(alone)["whole_tenant"], auth(alone)["permissions"]) == (False, ["write"])
        with pytest.raises(ThreadNotFound):
            await one.crons.update(LESS, shared.cron_id, more)
        await one.crons.update(LESS, shared.cron_id, later)
        assert auth(shared) is None


async def test_a_key_of_the_whole_tenant_does_not_act_for_others(database_url):
    """The runs of Ada's cron see her items in the store, and those keys do not."""
    async with open_states(database_url, {"agent": agent}, count=1) as (one,):
        cron = await create_cron(one.crons, owner=LESS)
        with pytest.raises(CronOfAnother):
            await one.crons.update(OPERATOR, cron.cron_id, CronPatch(input={"messages": []}))
        made = await one.assistants.get(ADA, "agent")
        same = CronPatch(assistant_id=str(made.assistant_id), enabled=False)
        changed = await one.crons.update(OPERATOR, cron.cron_id, same)
        assert (changed.enabled, changed.owner) == (False, "ada")
