"""One caller may take all places only while there is one: by each way to prove who calls."""

import json

import pytest

from headrace.edge.gates import RequestGates
from headrace.shares import Share
from tests.support.apps import app_client_and_state, settings_for, write_manifest
from tests.support.issuer import public_pem
from tests.support.stored_keys import revoke_key, store_key
from tests.support.waiting import eventually

KEY, OTHER = "k" * 24, "o" * 24
TOKENS = {
    "jwt_issuer": "https://issuer.test/",
    "jwt_audience": "agents",
    "jwt_algorithms": "ES256",
    "jwt_public_key": public_pem("ES256").decode(),
}
HANDLERS = """
from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def who(headers: dict) -> str:
    return headers[b"x-name"].decode()
"""


@pytest.mark.parametrize(
    ("more", "stored", "share"),
    [
        ({}, [], 1.0),
        ({"api_keys": KEY}, [], 1.0),
        ({"api_keys": f"{KEY},{OTHER}"}, [], 0.75),
        ({}, [{}], 0.75),
        ({"auth": "none"}, [{}], 0.75),
        ({"api_keys": KEY}, [{}], 0.75),
        ({"api_keys": KEY}, [{"tenant": "acme", "expires_in": 3600}], 0.75),
        ({"api_keys": KEY}, [{"expires_in": -1}], 1.0),
        ({"auth": "required"}, [], 0.75),
        ({"auth": TOKENS}, [], 0.75),
        ({"api_keys": f"{KEY},{OTHER}", "callers": {"share": 1.0}}, [{}], 1.0),
    ],
)
async def test_the_share_follows_from_who_may_call(database_url, tmp_path, more, stored, share):
    for one in stored:
        store_key(database_url, **one)
    settings = settings_for(database_url, write_manifest(tmp_path), **more)
    async with app_client_and_state(settings) as (_, state):
        assert state.get(Share).now == share


@pytest.mark.parametrize("api", [True, False])
async def test_callers_that_a_handler_knows_are_several(database_url, tmp_path, api):
    """Also for a process that only executes their runs."""
    (tmp_path / "who.py").write_text(HANDLERS)
    manifest = write_manifest(tmp_path)
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "auth": {"path": "./who.py:auth"}}))
    settings = settings_for(database_url, manifest)
    server = settings.server.model_copy(update={"api": api})
    settings = settings.model_copy(update={"server": server})
    async with app_client_and_state(settings) as (_, state):
        assert state.get(Share).now == 0.75


async def test_keys_that_are_made_and_revoked_change_it_while_the_process_serves(
    database_url, tmp_path
):
    settings = settings_for(
        database_url,
        write_manifest(tmp_path),
        auth={"keys_refresh_seconds": 0.1},
        server={"max_connections": 100, "grace_seconds": 0},
    )
    async with app_client_and_state(settings) as (_, state):
        share, gates = state.get(Share), state.get(RequestGates)
        held = [gates.lasting("") for _ in range(100)]
        key = store_key(database_url)
        await eventually(lambda: share.several)
        for one in held[:50]:
            one.release()
        # Half of the places are free again, and the caller that holds the others gets most of them.
        assert gates.answers.allowance("") == 25
        assert gates.answers.allowance(key.prefix) == 37
        revoke_key(database_url, key)
        await eventually(lambda: not share.several)
        assert gates.answers.allowance("") == 50
