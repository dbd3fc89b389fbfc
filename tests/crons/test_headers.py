"""The headers that a cron keeps for its runs: whose they are, and when they change."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.apps import app_client, settings_for
from tests.support.crons import YEARLY, make_due, runs_of
from tests.support.doors import GRAPHS
from tests.support.hook_receiver import hook_receiver
from tests.support.waiting import eventually

#: A token is the name of a user, and perhaps its device. Everybody sees each cron.
AUTH = """
from langgraph_sdk import Auth

auth = Auth()

@auth.authenticate
async def authenticate(authorization: str | None):
    name, _, device = (authorization or "nobody").removeprefix("Bearer ").partition(" on ")
    return {"identity": name, "device": device}
"""
FORWARDED = ("x-vault-token", "x-org-*")
HELLO = {"messages": [{"role": "user", "content": "hi"}]}
MORE = {"messages": [{"role": "user", "content": "more"}]}

Request = Callable[..., Any]


@pytest.fixture
def serving(database_url, tmp_path: Path) -> Callable[..., Any]:
    """A server whose manifest forwards these headers."""
    (tmp_path / "auth.py").write_text(AUTH)
    manifest = tmp_path / "langgraph.json"

    @asynccontextmanager
    async def opened(*names: str) -> AsyncIterator[Request]:
        manifest.write_text(
            json.dumps(
                {
                    "graphs": {"speaks": f"{GRAPHS}:speaks"},
                    "auth": {"path": f"{tmp_path}/auth.py:auth"},
                    "http": {"configurable_headers": {"includes": names}},
                    "webhooks": {"url": {"require_https": False, "disable_loopback": False}},
                }
            )
        )
        settings = settings_for(
            database_url, manifest, crons={"poll_seconds": 0.05, "retry_seconds": 0.2}
        )
        async with app_client(settings) as client:

            async def ask(
                method: str, path: str, body: Any, *, by: str = "ada", **headers: str
            ) -> httpx.Response:
                sent = {name.replace("_", "-"): value for name, value in headers.items()}
                return await client.request(
                    method, path, json=body, headers={"authorization": f"Bearer {by}", **sent}
                )

            yield ask

    return opened


@pytest.fixture
async def ask(serving) -> AsyncIterator[Request]:
    async with serving(*FORWARDED) as asking:
        yield asking


async def made(ask: Request, **more: Any) -> str:
    """A cron of Ada, made with two headers; the path that changes it."""
    body = {
        "assistant_id": "speaks",
        "schedule": YEARLY,
        "input": HELLO,
        "on_run_completed": "keep",
        **more,
    }
    answer = await ask("POST", "/runs/crons", body, x_vault_token="old", x_org_id="1")
    assert answer.status_code == 200, answer.text
    return f"/runs/crons/{answer.json()['cron_id']}"


async def changed(ask: Request, path: str, body: Any, **more: str) -> None:
    answer = await ask("PATCH", path, body, **more)
    assert answer.status_code == 200, answer.text


async def seen_by_next_run(database: Any, path: str) -> tuple[dict[str, str], str]:
    """The headers that the next run has, and the device of its user."""
    cron_id = path.rpartition("/")[2]
    before = len(runs_of(database, cron_id))
    make_due(database, cron_id)
    runs = await eventually(lambda: runs_of(database, cron_id)[before:])
    kwargs = runs[0][-1]
    headers = {
        name: value
        for name, value in kwargs["config"]["configurable"].items()
        if name.startswith("x-")
    }
    return headers, kwargs["auth"]["user"]["device"]


async def test_runs_have_the_headers_of_the_request_that_made_the_cron(ask, database):
    path = await made(ask)
    assert await seen_by_next_run(database, path) == ({"x-vault-token": "old", "x-org-id": "1"}, "")


async def test_its_answers_hide_the_headers_and_those_of_its_runs_show_them(ask, database):
    with hook_receiver() as receiver:
        path = await made(ask, webhook=receiver.url)
        cron = (await ask("GET", path, None)).text
        assert "x-vault-token" not in cron
        await seen_by_next_run(database, path)
        await eventually(lambda: receiver.received)
        told = receiver.received[0].json
    run = (await ask("GET", f"/threads/{told['thread_id']}/runs/{told['run_id']}", None)).json()
    for shown in (run, told):
        assert shown["kwargs"]["config"]["configurable"]["x-vault-token"] == "old"


@pytest.mark.parametrize("body", [{}, {"metadata": {"a": 1}}, {"input": HELLO}])
async def test_its_owner_renews_a_header_with_any_change(ask, database, body):
    """The rights are renewed with it: what a header says is a part of what the runs do."""
    path = await made(ask)
    await changed(ask, path, body, by="ada on a phone", x_vault_token="new")
    assert await seen_by_next_run(database, path) == (
        {"x-vault-token": "new", "x-org-id": "1"},
        "a phone",
    )


@pytest.mark.parametrize("body", [{}, {"enabled": True}, {"input": HELLO}])
async def test_a_change_without_headers_leaves_them(ask, database, body):
    path = await made(ask)
    await changed(ask, path, body, by="ada on a phone")
    assert await seen_by_next_run(database, path) == ({"x-vault-token": "old", "x-org-id": "1"}, "")


async def test_other_work_does_not_get_the_headers_of_then(ask, database):
    path = await made(ask)
    await changed(ask, path, {"input": MORE}, by="ada on a phone", x_org_id="2")
    assert await seen_by_next_run(database, path) == ({"x-org-id": "2"}, "a phone")


async def test_headers_of_another_caller_change_nothing(ask, database):
    path = await made(ask)
    await changed(ask, path, {"metadata": {"a": 1}}, by="eve", x_vault_token="eve's", x_org_id="3")
    assert await seen_by_next_run(database, path) == ({"x-vault-token": "old", "x-org-id": "1"}, "")


async def test_a_header_that_the_settings_name_no_longer_reaches_no_run(serving, database):
    async with serving(*FORWARDED) as ask:
        path = await made(ask)
    async with serving("x-org-*"):
        assert await seen_by_next_run(database, path) == ({"x-org-id": "1"}, "")
