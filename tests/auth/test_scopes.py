"""The scope ``read``: every operation, from the API's own description."""

import re

import pytest

from headrace.edge.reading import READING_POSTS
from tests.support.apps import GRAPHS, app_client, settings_for, write_manifest
from tests.support.keys import PUBLIC
from tests.support.stored_keys import store_key

DOORS = {"doors": "openai,mcp,a2a", "grace_seconds": 0}


@pytest.fixture
def settings(database_url, tmp_path):
    return settings_for(database_url, write_manifest(tmp_path), server=DOORS, auth="required")


async def test_a_key_that_may_only_read_changes_nothing(settings, database_url):
    reading = store_key(database_url, scopes=["read"]).text
    writing = store_key(database_url, scopes=["read", "write"]).text
    async with app_client(settings) as client:
        described = await client.get("/openapi.json", headers={"x-api-key": reading})
        paths = described.json()["paths"]
        asked = {True: 0, False: 0}
        for route, operations in paths.items():
            # Metrics tell of all tenants: no key of the database opens them.
            if route in PUBLIC or route == "/metrics":
                continue
            path = re.sub(r"{\w+}", "1", route)
            for method in operations:
                reads = method == "get" or (method == "post" and route in READING_POSTS)
                answer = await client.request(
                    method, path, content=b"{not json", headers={"x-api-key": reading}
                )
                refused = "read_only" in answer.text
                assert refused is not reads, (method, route, answer.text)
                assert (answer.status_code == 403) is refused, (method, route, answer.text)
                asked[reads] += 1
                free = await client.request(
                    method, path, content=b"{not json", headers={"x-api-key": writing}
                )
                assert free.status_code not in (401, 403), (method, route, free.text)
        assert min(asked.values()) > 15, asked
    assert paths.keys() >= READING_POSTS


@pytest.mark.parametrize(
    ("query", "refused"),
    [
        ("", False),
        ("?cancel_on_disconnect=false", False),
        ("?cancel_on_disconnect=0", False),
        ("?cancel_on_disconnect=true", True),
        ("?cancel_on_disconnect=on", True),
        ("?cancel%5Fon%5Fdisconnect=1", True),
        ("?cancel_on_disconnect=false&cancel_on_disconnect=true", True),
    ],
)
async def test_who_may_only_read_cancels_no_run_by_leaving(settings, database_url, query, refused):
    key = store_key(database_url, scopes=["read"]).text
    thread = run = "01a20f90-ead2-7dda-8dd9-155da35890a5"
    async with app_client(settings) as client:
        answer = await client.get(
            f"/threads/{thread}/runs/{run}/stream{query}", headers={"x-api-key": key}
        )
    assert (answer.json()["code"] == "read_only") is refused


async def test_routes_of_the_users_app_are_read_by_their_method(database_url, tmp_path):
    http = {"app": f"{GRAPHS / 'webapp.py'}:app", "enable_custom_route_auth": True}
    settings = settings_for(database_url, write_manifest(tmp_path, http=http), auth="required")
    key = store_key(database_url, scopes=["read"]).text
    async with app_client(settings) as client:
        headers = {"x-api-key": key}
        assert (await client.get("/hello")).status_code == 401
        assert (await client.get("/hello", headers=headers)).status_code == 200
        answer = await client.post("/ask/4", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "read_only")
        assert (await client.post("/threads/count", json={}, headers=headers)).status_code == 200
        assert (await client.post("/threads", json={}, headers=headers)).status_code == 403
