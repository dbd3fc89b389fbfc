"""``http`` of langgraph.json, as callers notice it."""

import json
import re
from inspect import signature

import pytest
from starlette.middleware.cors import CORSMiddleware

from headrace.edge.cors import cors_policy
from headrace.errors import StartupRefusal
from headrace.graphs.http_entry import CorsEntry, HeaderRules, HttpEntry
from headrace.server.app import create_app
from headrace.settings import Settings
from tests.support.apps import app_client, settings_for, write_manifest

KEY = "a-key-of-the-tests-1"
PAGE = "https://chat.example"
EXPOSED = {"content-location", "location", "x-pagination-total", "x-pagination-next"}


@pytest.fixture
def settings(database_url, tmp_path):
    def settings(http=None, **more):
        manifest = write_manifest(tmp_path, **({"http": http} if http else {}))
        return settings_for(database_url, manifest, **more)

    return settings


def preflight(origin=PAGE, method="POST"):
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type, x-api-key, last-event-id",
    }


def exposed(answer):
    names = answer.headers["access-control-expose-headers"]
    return {name.strip().lower() for name in names.split(",")}


async def test_a_page_of_this_machine_may_use_a_server_without_keys_and_no_other(settings):
    async with app_client(settings()) as client:
        local = "http://localhost:3000"
        answer = await client.options("/threads", headers=preflight(local))
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == local
        assert "last-event-id" in answer.headers["access-control-allow-headers"]
        private = {**preflight(local), "Access-Control-Request-Private-Network": "true"}
        answer = await client.options("/threads", headers=private)
        # Starlette before 0.51 does not know of this question (docs/versions.md).
        known = "allow_private_network" in signature(CORSMiddleware).parameters
        assert answer.headers.get("access-control-allow-private-network") == (
            "true" if known else None
        )
        answer = await client.get("/ok", headers={"Origin": local})
        assert answer.headers["access-control-allow-origin"] == local
        assert exposed(answer) >= EXPOSED | {"x-request-id"}

        answer = await client.options("/threads", headers=preflight())
        assert answer.status_code == 400
        answer = await client.get("/ok", headers={"Origin": PAGE})
        assert "access-control-allow-origin" not in answer.headers


async def test_any_page_may_use_a_server_that_says_so_and_read_its_refusals(settings):
    everybody = {"allowed_origins": "*"}
    async with app_client(settings(api_keys=KEY, edge=everybody)) as client:
        answer = await client.options("/threads", headers=preflight())
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
        origin = {"Origin": PAGE}
        refused = await client.post("/threads", json={}, headers=origin)
        unknown = await client.get("/nothing", headers=origin)
        assert (refused.status_code, unknown.status_code) == (401, 404)
        for answer in (refused, unknown):
            assert answer.headers["access-control-allow-origin"] == "*"
            assert exposed(answer) >= EXPOSED
            assert "access-control-allow-credentials" not in answer.headers


async def test_a_slash_at_the_end_is_taken_off_for_those_with_a_key(settings):
    async with app_client(settings(api_keys=KEY)) as client:
        for path in ("/threads/x/state/", "/threads/x/"):
            answer = await client.get(path)
            assert (answer.status_code, "location" in answer.headers) == (401, False)
            answer = await client.get(path, headers={"X-Api-Key": KEY, "Host": "evil.example"})
            assert (answer.status_code, answer.headers["location"]) == (307, path.rstrip("/"))
        # Whoever may ask for the place itself may be sent there.
        assert (await client.get("/ok/")).headers["location"] == "/ok"


async def test_the_manifest_names_other_pages(settings):
    cors = {
        "allow_origins": [PAGE],
        "allow_origin_regex": r"https://.*\.example",
        "allow_methods": ["POST"],
        "allow_credentials": True,
        "expose_headers": ["X-Own", "location"],
        "max_age": 5,
    }
    async with app_client(settings({"cors": cors})) as client:
        answer = await client.options("/threads", headers=preflight())
        assert answer.headers["access-control-max-age"] == "5"
        assert answer.headers["access-control-allow-credentials"] == "true"
        answer = await client.options("/threads", headers=preflight(method="DELETE"))
        assert answer.status_code == 400
        answer = await client.get("/ok", headers={"Origin": "https://a.example"})
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        assert exposed(answer) == EXPOSED | {"x-request-id", "x-own"}
        answer = await client.get("/ok", headers={"Origin": "http://localhost:3000"})
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("origin", "local"),
    [
        ("http://localhost", True),
        ("http://127.0.0.1:5173", True),
        ("https://[::1]:8", True),
        ("http://app.localhost:3000", True),
        ("http://localhost.example", False),
        ("http://127.0.0.1.example", False),
        ("https://example", False),
        ("null", False),
    ],
)
def test_what_is_a_page_of_this_machine(origin, local):
    pattern = cors_policy(CorsEntry(max_age=1), Settings())["allow_origin_regex"]
    assert bool(re.fullmatch(pattern, origin)) is local


async def test_everything_is_below_the_prefix_and_the_probes_at_the_root_too(settings):
    async with app_client(settings({"mount_prefix": "/api/"})) as client:
        answer = await client.get("/threads/x")
        assert answer.status_code == 404
        assert "below /api (http.mount_prefix)" in answer.json()["detail"]
        for path in ("/livez", "/readyz", "/metrics", "/ok", "/health"):
            assert (await client.get(path)).status_code == 200
            assert (await client.get(f"/api{path}")).status_code == 200
        assert (await client.get("/api/openapi.json")).json()["servers"] == [{"url": "/api"}]
        assert "'/api/openapi.json'" in (await client.get("/api/docs")).text
        assert (await client.get("/openapi.json")).status_code == 404

        thread = (await client.post("/api/threads", json={})).json()["thread_id"]
        answer = await client.post(
            f"/api/threads/{thread}/runs/wait", json={"assistant_id": "ctx", "input": {}}
        )
        place = answer.headers["content-location"]
        assert re.fullmatch(rf"/api/threads/{thread}/runs/[0-9a-f-]+", place)
        assert answer.headers["location"] == f"{place}/join"
        # As it stands, and behind a base URL, which is where SDKs put it.
        for url in (f"{place}/join", f"/api{place}/join"):
            assert (await client.get(url)).json() == answer.json()
        assert (await client.get("/apiary")).status_code == 404


async def test_what_is_disabled_is_not_there(settings):
    closed = {f"disable_{room}": True for room in ("threads", "store", "meta", "mcp", "webhooks")}
    async with app_client(settings(closed)) as client:
        gone = ["/threads", "/threads/search", "/store/items/search", "/chat"]
        for path in gone:
            assert (await client.post(path, json={})).status_code == 404, path
        for path in ("/info", "/metrics", "/openapi.json", "/docs"):
            assert (await client.get(path)).status_code == 404, path
        for path in ("/ok", "/livez", "/readyz"):
            assert (await client.get(path)).status_code == 200, path
        body = {"assistant_id": "ctx", "input": {}}
        assert (await client.post("/runs/wait", json=body)).status_code == 200
        assert (await client.post("/assistants/search", json={})).status_code == 200


@pytest.mark.parametrize(
    ("written", "named", "opened"),
    [
        ({}, set(), set()),
        ({}, {"openai", "mcp"}, {"openai", "mcp"}),
        ({"doors": ["a2a"]}, {"openai"}, {"openai", "a2a"}),
        ({"doors": None}, set(), set()),
        ({"disable_mcp": False}, set(), {"mcp"}),
        ({"disable_mcp": True, "doors": ["mcp"]}, {"mcp"}, set()),
        ({"disable_a2a": True}, {"a2a", "openai"}, {"openai"}),
        ({"disable_runs": True, "doors": ["mcp"]}, {"openai"}, set()),
        ({"disable_threads": True}, {"openai"}, set()),
    ],
)
def test_a_door_is_open_if_somebody_names_it_and_nobody_closes_it(written, named, opened):
    assert HttpEntry.model_validate(written).open_doors(named) == opened


def test_a_door_that_is_not_there_is_refused(settings):
    with pytest.raises(ValueError, match="there is no 'agui'; name some of openai, mcp, a2a"):
        Settings.model_validate({"server": {"doors": "openai, agui"}})
    with pytest.raises(StartupRefusal, match=r"HR104 .*http\.doors"):
        create_app(settings({"doors": ["agui"]}))


async def test_open_doors_are_described_and_flagged(settings):
    async with app_client(settings({"doors": ["openai", "mcp"]})) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        flags = (await client.get("/info")).json()["flags"]
    assert {"/v1/chat/completions", "/v1/responses", "/v1/models", "/mcp"} <= set(paths)
    assert (flags["openai"], flags["mcp"], flags["a2a"]) == (True, True, False)


async def test_a_description_has_the_rooms_that_are_served_only(settings):
    async with app_client(settings({"disable_runs": True})) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert "/threads" in paths
    assert [path for path in paths if "/runs" in path or path.startswith("/chat")] == []


async def test_a_run_sees_the_headers_that_are_included_and_keeps_them(settings):
    rules = {"includes": ["x-*", "authorization"], "excludes": ["x-noise-*"]}
    async with app_client(settings({"configurable_headers": rules})) as client:
        thread = (await client.post("/threads", json={})).json()["thread_id"]
        given = {
            "X-Org": "acme",
            "X-Noise-1": "no",
            "X-API-Key": "no",
            "X-Tenant-Id": "no",
            "X-Session-Token": "no",
            "Authorization": "Bearer named-exactly",
            "Cookie": "no",
        }
        configurable = {"x-org": "forged", "own": "1"}
        body = {"assistant_id": "ctx", "input": {}, "config": {"configurable": configurable}}
        answer = await client.post(f"/threads/{thread}/runs/wait", json=body, headers=given)
        expected = {"x-org": "acme", "authorization": "Bearer named-exactly", "own": "1"}
        seen = answer.json()["saw_configurable"]
        assert {key: seen[key] for key in expected} == expected
        assert not {"x-noise-1", "x-api-key", "x-tenant-id", "x-session-token", "cookie"} & set(
            seen
        )
        stored = (await client.get(answer.headers["content-location"])).json()["kwargs"]
        assert stored["config"]["configurable"]["x-org"] == "acme"

        # One that waits in the queue is claimed with what is stored.
        later = {"assistant_id": "ctx", "input": {}, "after_seconds": 0.1}
        run = await client.post(f"/threads/{thread}/runs", json=later, headers=given)
        joined = await client.get(f"{run.headers['content-location']}/join")
        assert joined.json()["saw_configurable"]["x-org"] == "acme"
        answer = await client.post("/runs/wait", json={"assistant_id": "ctx", "input": {}})
        assert "x-org" not in answer.json()["saw_configurable"]


async def test_by_default_a_run_sees_no_header(settings):
    async with app_client(settings()) as client:
        answer = await client.post(
            "/runs/wait", json={"assistant_id": "ctx", "input": {}}, headers={"X-Org": "acme"}
        )
    assert "x-org" not in answer.json()["saw_configurable"]


@pytest.mark.parametrize(
    ("rules", "seen"),
    [
        ({"include": ["X-Org"]}, {"x-org": "a"}),
        ({"includes": ["*"]}, {"x-org": "a", "x-many": "1, 2", "user-agent": "t"}),
        ({"includes": ["*"], "excludes": ["*-agent", "X-MANY"]}, {"x-org": "a"}),
        ({"includes": ["cookie", "x-api-key", "checkpoint_id"]}, {"cookie": "c"}),
        ({"includes": ["coo*"]}, {}),
        ({"includes": ["x.org"]}, {}),
        ({"includes": None}, {}),
    ],
)
def test_which_headers_rules_include(rules, seen):
    headers = [
        (b"x-org", b"a"),
        (b"X-Many", b"1"),
        (b"x-many", b"2"),
        (b"user-agent", b"t"),
        (b"cookie", b"c"),
        (b"x-api-key", b"k"),
        (b"checkpoint_id", b"p"),
    ]
    assert HeaderRules.model_validate(rules).chosen(headers) == seen


async def test_the_access_log_tells_the_headers_that_are_included(settings, capfd):
    http = {"logging_headers": {"includes": ["x-*"], "excludes": ["x-noise"]}}
    async with app_client(settings(http)) as client:
        headers = {"X-Org": "acme", "X-Noise": "n", "X-Api-Key": "secret"}
        await client.get("/info", headers=headers)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    told = [json.loads(line) for line in lines]
    assert [one["headers"] for one in told if one.get("path") == "/info"] == [{"x-org": "acme"}]
