"""``auth`` of langgraph.json: what starts, what is refused at start, and what each key does."""

import json
import sys

import httpx
import pytest

from headrace.errors import StartupRefusal
from headrace.graphs.manifest import read_manifest, refuse_missing_files
from headrace.server.app import create_app
from tests.support.apps import GRAPHS, app_client, settings_for, started

HEAD = "from langgraph_sdk import Auth\nauth = Auth()\n"
ANYBODY = f"{HEAD}@auth.authenticate\nasync def authenticate(authorization): return authorization\n"


@pytest.fixture
def settings(database_url, tmp_path, monkeypatch):
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def settings(code, *, auth=None, more=None, **values):
        (tmp_path / "own_auth.py").write_text(code)
        path = tmp_path / "langgraph.json"
        entry = {"path": "./own_auth.py:auth", **(auth or {})}
        graphs = {"agent": f"{GRAPHS / 'guarded.py'}:agent"}
        path.write_text(json.dumps({"graphs": graphs, "auth": entry, **(more or {})}))
        return settings_for(database_url, path, **values)

    yield settings
    for name in set(sys.modules) - before:
        if name.startswith(("own_auth", "guarded")):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("auth = 1", "HR125 auth (./own_auth.py:auth): it is int, not an object of"),
        (
            "from langgraph_sdk import Auth as auth",
            "HR125 auth (./own_auth.py:auth): it is the class",
        ),
        (HEAD, "HR126 auth (./own_auth.py:auth): it has no handler that tells who calls"),
        (
            f"{HEAD}@auth.authenticate\nasync def authenticate(token): ...\n",
            "HR127 auth (./own_auth.py:auth): its authenticate asks for token, which no",
        ),
        ("import nothing_like_this", "HR105"),
        ("other = 1", "HR101"),
    ],
)
async def test_handlers_that_cannot_be_used_refuse_the_start(settings, code, expected):
    with pytest.raises(StartupRefusal) as refused:
        async with started(create_app(settings(code))):
            pass
    assert str(refused.value).startswith(expected)


def test_a_missing_file_is_found_before_the_start(settings):
    chosen = settings("", auth={"path": "./nowhere.py:auth"})
    with pytest.raises(StartupRefusal, match="HR101 auth"):
        refuse_missing_files(read_manifest(chosen.config))


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ({"cache": {}}, "auth.cache.cache_keys"),
        ({"cache": {"cache_keys": ["a b"]}}, "auth.cache.cache_keys"),
        ({"cache": {"cache_keys": ["a"], "ttl_seconds": 0}}, "auth.cache.ttl_seconds"),
        ({"path": "own_auth"}, "auth.path"),
    ],
)
def test_wrong_values_are_refused(settings, auth, expected):
    with pytest.raises(StartupRefusal, match=expected):
        read_manifest(settings(ANYBODY, auth=auth).config)


def test_what_has_no_effect_is_told(settings):
    chosen = settings(
        ANYBODY,
        auth={"disable_studio_auth": False, "typo": 1, "cache": {"cache_keys": ["a"], "ttl": 3}},
    )
    notices = " ".join(read_manifest(chosen.config).notices)
    assert "auth.disable_studio_auth: false has no effect" in notices
    assert "auth.typo" in notices
    assert "auth.cache.ttl" in notices
    short = settings(ANYBODY)
    short.config.write_text(json.dumps({"graphs": {"a": "./a.py:a"}, "auth": "./a.py:auth"}))
    assert read_manifest(short.config).authenticates
    short.config.write_text(json.dumps({"graphs": {"a": "./a.py:a"}, "auth": {"cache": None}}))
    manifest = read_manifest(short.config)
    assert not manifest.authenticates
    assert "it names no path" in " ".join(manifest.notices)


async def test_the_start_lists_what_everybody_may_do(settings, capfd):
    code = f"{ANYBODY}@auth.on.threads\nasync def own(ctx, value): return None\n"
    async with app_client(settings(code)) as client:
        answer = await client.post("/threads", json={}, headers={"Authorization": "ada"})
        assert answer.status_code == 200
    lines = capfd.readouterr().err.splitlines()
    (line,) = [json.loads(one) for one in lines if "auth_actions_without_handler" in one]
    assert "store.put" in line["allowed"]
    assert "threads.create" not in line["allowed"]


async def test_users_are_remembered_as_the_manifest_says(settings):
    code = (
        f"{HEAD}CALLS = []\n@auth.authenticate\nasync def authenticate(authorization):\n"
        "    CALLS.append(authorization)\n    return authorization\n"
    )
    cache = {"cache_keys": ["Authorization"], "ttl_seconds": 60, "max_size": 10}
    async with app_client(settings(code, auth={"cache": cache})) as client:
        for name in ("ada", "ada", "bob", "ada"):
            answer = await client.post("/threads/search", headers={"Authorization": name})
            assert answer.status_code == 200
    assert sys.modules["own_auth"].CALLS == ["ada", "bob"]


async def test_a_sync_handler_reads_the_body_and_the_endpoint_does_too(settings):
    code = (
        f"{HEAD}@auth.authenticate\ndef authenticate(body, path_params, request):\n"
        "    assert request is not None\n"
        "    return {'identity': (body or {}).get('who', 'nobody'), 'ids': path_params}\n"
    )
    async with app_client(settings(code)) as client:
        run = {"assistant_id": "agent", "input": {"messages": []}, "who": "ada"}
        answer = await client.post("/runs/wait", json=run)
        seen = json.loads(answer.json()["messages"][-1]["content"])
        assert (seen["user_id"], seen["user"]["ids"]) == ("ada", {})
        broken = await client.post("/runs/wait", content=b"{")
        assert (broken.status_code, broken.json()["code"]) == (422, "malformed_json")


async def test_a_handler_of_the_body_leaves_it_to_routes_of_the_app(settings):
    code = (
        f"{HEAD}@auth.authenticate\nasync def authenticate(body):\n"
        "    return (body or {}).get('who', 'nobody')\n"
    )
    app = f"{GRAPHS / 'guarded.py'}:app"
    for order in ("auth_first", "middleware_first"):
        http = {"app": app, "enable_custom_route_auth": True, "middleware_order": order}
        async with app_client(settings(code, more={"http": http})) as client:
            told = await client.post("/me", content=b'{"who": "ada"}')
            assert told.json()["identity"] == "ada"
            assert told.json()["body"] == '{"who": "ada"}'
            made = await client.post("/threads", json={"metadata": {"a": 1}, "who": "ada"})
            assert made.json()["metadata"] == {"a": 1}


async def test_a_key_of_headrace_and_a_handler_go_together(settings):
    key = "a-key-of-the-tests-1"
    code = f"{ANYBODY}@auth.on.threads.read\nasync def none(ctx, value): return False\n"
    async with app_client(settings(code, api_keys=key)) as client:
        for headers in ({"x-api-key": key}, {"Authorization": "ada"}):
            made = await client.post("/threads", json={}, headers=headers)
            assert made.status_code == 200
            # Handlers are asked about every caller.
            path = f"/threads/{made.json()['thread_id']}"
            assert (await client.get(path, headers=headers)).status_code == 403
        # The handler returns None: nobody is let in by accident.
        assert (await client.post("/threads", json={})).status_code == 500


async def test_callers_of_other_machines_are_asked_too(settings):
    async with app_client(settings(ANYBODY), **{"x-forwarded-for": "192.0.2.1"}) as client:
        answer = await client.post("/threads", json={}, headers={"Authorization": "ada"})
        assert answer.status_code == 200
        assert isinstance(client, httpx.AsyncClient)
