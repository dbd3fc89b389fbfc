"""Requests that no SDK sends: other methods, other paths, other headers, other numbers."""

import json
import re
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from headrace.ids import uuid7
from tests.support.apps import app_client, settings_for, write_manifest

ECHO = {"assistant_id": "echo", "input": {"messages": [{"role": "user", "content": "hi"}]}}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp("odd"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(module_database, manifest):
    async with app_client(settings_for(module_database, manifest)) as opened:
        yield opened


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(client):
    """The path of a run whose events are kept."""
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "typed", "input": {}, "stream_resumable": True}
    made = (await client.post(f"/threads/{thread}/runs", json=body)).json()
    path = f"/threads/{thread}/runs/{made['run_id']}"
    await client.get(f"{path}/join")
    return path


def names(text: str) -> list[str]:
    return re.findall(r"^event: (\S+)", text, re.MULTILINE)


OTHERS = ("1795404759126-0", "1795404759126", "abc", "1.5", "-2", "9" * 40, "x" * 3000, "١", "1_0")


@pytest.mark.parametrize("given", OTHERS)
async def test_an_id_of_another_server_replays_a_run_from_the_start(client, run, given):
    whole = (await client.get(f"{run}/stream", headers={"Last-Event-ID": "-1"})).text
    assert names(whole)[0] == "metadata"
    assert names(whole)[-1] == "end"
    by_query = await client.get(f"{run}/stream", params={"last_event_id": given})
    assert (by_query.status_code, by_query.text) == (200, whole)
    if given.isascii():
        by_header = await client.get(f"{run}/stream", headers={"Last-Event-ID": given})
        assert (by_header.status_code, by_header.text) == (200, whole)


LATE = "ffffffff-ffff-ffff-ffff-ffffffffffff"
NEVER = "ffffffff-ffff-7fff-bfff-ffffffffffff"


@pytest.mark.parametrize(
    "given",
    [
        "abc",
        "1795404759126-0",
        "RUN:99999999999999999999",
        "RUN:9223372036854775808",
        "RUN:-9223372036854775809",
        "RUN:-5",
        "RUN:x",
        "RUN:",
        "RUN",
        f"{LATE}:1",
        f"{NEVER}:1",
        f"{NEVER}:done",
        "00000000-0000-4000-8000-000000000000:1",
        "{RUN}:1",
    ],
)
async def test_a_threads_stream_refuses_an_id_that_it_cannot_have_sent(client, run, given):
    _, _, thread, _, run_id = run.split("/")
    given = given.replace("RUN", run_id)
    for how in ({"params": {"last_event_id": given}}, {"headers": {"Last-Event-ID": given}}):
        answer = await client.get(f"/threads/{thread}/stream", **how)
        assert answer.status_code == 422
        assert "Last-Event-ID" in answer.json()["detail"]


TOO_LARGE = ("9223372036854775807", "9223372036854775808", "9" * 20, "9" * 4000, "1e400", "-1e400")


@pytest.mark.parametrize("number", TOO_LARGE, ids=lambda number: number[:22])
async def test_a_number_that_no_column_holds_is_refused_or_has_no_meaning(client, run, number):
    """Wherever a number goes into a statement, and whatever follows it still works."""
    _, _, thread, _, run_id = run.split("/")
    said = float(number) if "e" in number else int(number)
    gets = {
        f"/threads/{thread}/runs": ("limit", "offset"),
        f"/threads/{thread}/history": ("limit", "before"),
        f"/threads/{thread}/runs/{run_id}/stream": ("last_event_id",),
        f"/threads/{thread}/stream": ("last_event_id",),
        f"/threads/{thread}/state": ("checkpoint_id",),
        f"/threads/{thread}/state/{number}": ("subgraphs",),
        f"/assistants/typed/subgraphs/{number}": ("recurse",),
        "/assistants/typed/graph": ("xray",),
    }
    for path, names in gets.items():
        for name in names:
            answer = await client.get(path, params={name: number})
            assert answer.status_code in (200, 400, 404, 422), (path, name, answer.text)
    posts = {
        "/threads/search": ({"limit": said}, {"offset": said}, {"metadata": {"a": said}}),
        "/threads/count": ({"values": {"a": said}},),
        "/threads": ({"ttl": said}, {"ttl": {"ttl": said}}, {"metadata": {"a": said}}),
        "/assistants/search": ({"limit": said}, {"offset": said}),
        "/assistants/typed/versions": ({"limit": said}, {"offset": said}),
        "/assistants/typed/latest": ({"version": said},),
        "/store/items/search": ({"limit": said}, {"offset": said}, {"filter": {"a": said}}),
        "/store/namespaces": ({"limit": said}, {"offset": said}, {"max_depth": said}),
        f"/threads/{thread}/history": ({"limit": said}, {"before": number}),
        f"/threads/{thread}/runs": (
            {"assistant_id": "typed", "after_seconds": said},
            {"assistant_id": "typed", "config": {"recursion_limit": said}},
        ),
    }
    for path, bodies in posts.items():
        for body in bodies:
            text = json.dumps(body).replace("Infinity", number.lstrip("-"))
            answer = await client.post(
                path, content=text, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code < 500, (path, body, answer.text)
    assert (await client.get(f"{run}/join")).status_code == 200
    assert (await client.get("/readyz")).status_code == 200


def readable(client_paths: dict, run: str) -> list[str]:
    """Each path that GET takes, filled in."""
    _, _, thread, _, run_id = run.split("/")
    filled = []
    for path, operations in client_paths.items():
        if "get" in operations:
            filled.append(
                path.replace("{thread_id}", thread)
                .replace("{run_id}", run_id)
                .replace("{assistant_id}", "typed")
                .replace("{checkpoint_id}", str(uuid7()))
                .replace("{namespace}", "none")
            )
    return filled


async def test_head_answers_as_get_does_without_a_body(client, run):
    paths = readable((await client.get("/openapi.json")).json()["paths"], run)
    assert len(paths) > 15
    for path in [*paths, "/docs", "/openapi.json", "/store/items?namespace=a&key=b"]:
        head = await client.head(path)
        assert head.content == b""
        # A thread's stream has no end.
        if path.endswith("/stream") and "/runs/" not in path:
            assert head.status_code == 200
            assert head.headers["content-type"].startswith("text/event-stream")
            continue
        got = await client.get(path)
        assert head.status_code == got.status_code, path
        for name in ("content-type", "location", "content-location", "cache-control"):
            assert head.headers.get(name) == got.headers.get(name), (path, name)
    missing = await client.head(f"/threads/{uuid7()}/stream")
    assert missing.status_code == 404


async def test_head_leaves_its_connection_to_the_next_request(forms_server):
    requests = ["HEAD /info", "HEAD /ok", "HEAD /threads/none", "HEAD /nobody", "GET /ok"]
    address = urlsplit(forms_server.url)
    with closing(HTTPConnection(address.hostname, address.port)) as connection:
        # Connected once: a second socket would hide that the first was closed.
        connection.connect()
        connection.auto_open = 0
        statuses = []
        for request in requests:
            method, path = request.split()
            connection.request(method, path)
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
    assert statuses == [200, 200, 422, 404, 200]
    assert "Exception in ASGI application" not in forms_server.log()


@pytest.mark.asyncio(loop_scope="module")
async def test_the_sentence_of_a_check_stands_by_itself(client):
    refused = await client.post("/runs/cancel", json={})
    told = "body: send either thread_id with run_ids, or status"
    assert (refused.status_code, refused.json()["detail"]) == (422, told)


async def test_a_body_is_called_json_where_no_key_is_needed(client):
    for content_type in ("application/json", "application/json; charset=utf-8"):
        headers = {"content-type": content_type}
        answer = await client.post("/threads/search", content=b'{"limit": 1}', headers=headers)
        assert answer.status_code == 200
        assert len(answer.json()) <= 1
    for wrong in (None, "text/plain", "application/x-www-form-urlencoded", "?"):
        headers = {"content-type": wrong} if wrong else {}
        answer = await client.post("/threads/search", content=b"{}", headers=headers)
        assert answer.status_code == 415
        assert "Content-Type: application/json" in answer.json()["detail"]


PAGES = (
    ("GET", "{thread}/runs", 200),
    ("GET", "{thread}/history", 200),
    ("POST", "{thread}/history", 200),
    ("POST", "/store/items/search", 200),
    ("POST", "/store/namespaces", 200),
    ("POST", "/threads/search", 422),
    ("POST", "/assistants/search", 422),
    ("POST", "/assistants/typed/versions", 422),
)


@pytest.mark.parametrize(("method", "path", "of_none"), PAGES)
async def test_a_page_of_nothing_is_empty_or_refused(client, run, method, path, of_none):
    path = path.replace("{thread}", run.partition("/runs")[0])

    async def ask(limit: object):
        if method == "GET":
            return await client.get(path, params={"limit": limit})
        return await client.post(path, json={"limit": limit, "namespace_prefix": ["a"]})

    answer = await ask(0)
    assert answer.status_code == of_none
    if of_none == 200:
        body = answer.json()
        assert (body if isinstance(body, list) else next(iter(body.values()))) == []
    else:
        assert "limit" in answer.json()["detail"]
    for limit in (-1, 10**6, 10**30, "x", 1.5):
        refused = await ask(limit)
        assert refused.status_code == 422, limit
        assert "limit" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/ui/agent"),
    ],
)
async def test_what_other_servers_have_is_named(client, run, method, path):
    answer = await client.request(method, path.replace("/T/", f"/{run.split('/')[2]}/"))
    assert answer.status_code == 501
    told = answer.json()
    assert told["code"] == "not_implemented"
    assert "not in headrace" in told["detail"]
    assert told["detail"].count(".") >= 2


@pytest.mark.parametrize(
    ("method", "path", "door"),
    [
        ("POST", "/mcp", "mcp"),
        ("GET", "/mcp/", "mcp"),
        ("POST", "/a2a/x", "a2a"),
        ("GET", "/.well-known/agent-card.json", "a2a"),
        ("POST", "/v1/chat/completions", "openai"),
        ("POST", "/v1/responses", "openai"),
        ("GET", "/v1/models", "openai"),
    ],
)
async def test_a_closed_door_says_how_it_is_opened(client, method, path, door):
    answer = await client.request(method, path)
    assert answer.status_code == 404
    told = answer.json()
    assert told["code"] == "door_closed"
    assert f"name {door} in HEADRACE_SERVER__DOORS or in http.doors" in told["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/threads", {"POST"}),
        ("HEAD", "/threads", {"POST"}),
        ("PUT", "/threads/T", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("POST", "/threads/T/stream", {"GET", "HEAD"}),
        ("PATCH", "/threads/T/state", {"GET", "HEAD", "POST"}),
        ("GET", "/runs/wait", {"POST"}),
        ("TRACE", "/runs", {"POST"}),
        ("POST", "/store/items", {"PUT", "DELETE", "GET", "HEAD"}),
        ("POST", "/ok", {"GET", "HEAD"}),
        ("DELETE", "/chat", {"POST"}),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(client, run, method, path, allowed):
    answer = await client.request(method, path.replace("/T", f"/{run.split('/')[2]}"))
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
    if method != "HEAD":
        assert answer.json()["code"] == "method_not_allowed"
        assert all(one in answer.json()["detail"] for one in allowed)


@pytest.mark.parametrize(
    ("method", "path", "hint"),
    [
        ("GET", "/nope", "/openapi.json"),
        ("POST", "/threads/T/nope", "/openapi.json"),
        ("POST", "//threads", "POST /threads"),
        ("POST", "/threads//T/runs/wait", "POST /threads/T/runs/wait"),
        ("GET", "/" + "x" * 5000, "/openapi.json"),
    ],
)
async def test_an_unknown_path_is_told_where_to_look(client, method, path, hint):
    answer = await client.request(method, f"http://server{path}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"
    assert hint in answer.json()["detail"]
    assert len(answer.content) < 600


async def test_a_slash_at_the_end_is_taken_off(client):
    answer = await client.post("/threads/search/", json={"limit": 1}, follow_redirects=True)
    assert answer.status_code == 200
    json.loads(answer.content)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "evil.example/x?"])
async def test_a_slash_at_the_end_leads_to_no_other_host(client, host):
    asked = "/threads/a%20b/state/?subgraphs=true&x=%2F%2F"
    # Without keys a stranger is sent nowhere.
    answer = await client.get(asked, headers={"Host": host, "X-Forwarded-For": "192.0.2.1"})
    assert (answer.status_code, "location" in answer.headers) == (403, False)
    answer = await client.get(asked, headers={"Host": host})
    assert answer.status_code == 307
    assert answer.headers["location"] == "/threads/a%20b/state?subgraphs=true&x=%2F%2F"
    for path in ("//evil.example/", "//evil.example/threads/", "/%2Fevil.example/", "/\\evil/"):
        answer = await client.get(f"http://server{path}", headers={"Host": host})
        assert answer.status_code == 404
        assert "location" not in answer.headers


@pytest.mark.parametrize("path", ["/api_key=canary", "/a/Bearer canary0123456789"])
async def test_a_refusal_does_not_repeat_a_secret_of_the_path(client, path):
    for method in ("GET", "POST"):
        answer = await client.request(method, path)
        assert answer.status_code == 404
        assert "canary" not in answer.json()["detail"]
