"""What web pages can do to a server that asks for no key: nothing, unless they are named."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from headrace.admission_errors import HostRefused, JSONRequired, PageRefused
from headrace.edge.cors import web_pages
from headrace.edge.web_pages import Origins, WebPages
from headrace.graphs.http_entry import CorsEntry
from headrace.settings import Settings
from tests.support.apps import app_client, settings_for, write_manifest

PAGE = "https://evil.example"
KEY = "a-key-of-the-tests-1"


def scope_of(method="POST", *, server=("127.0.0.1", 8123), kind="http", **headers):
    named = {"host": "localhost:8123", **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()]
    return {"type": kind, "method": method, "server": server, "headers": raw}


def rules(*, entry=None, **settings) -> WebPages:
    return web_pages(entry, Settings.model_validate(settings))


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8123",
        "LOCALHOST.:8123",
        "app.localhost:1",
        "127.0.0.1",
        "127.0.0.1:8123",
        "[::1]:8123",
        "192.168.1.7:8123",
        "[fe80::1%25eth0]:80",
    ],
)
def test_names_of_this_machine_and_addresses_are_its_own(host):
    rules().check_host(scope_of(host=host))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8123",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "evil",
        "1.2.3.4.5",
        "xn--lcalhost-9za",
        "",
        "[::1",
        "localhost:8123:evil.example",
    ],
)
def test_another_name_is_refused_where_no_key_is_asked_for(host):
    with pytest.raises(HostRefused, match="ALLOWED_HOSTS"):
        rules().check_host(scope_of(host=host))
    # A proxy in front has a name of its own, and a page has no key.
    rules(auth="none").check_host(scope_of(host=host))
    rules(api_keys=KEY).check_host(scope_of(host=host))


def test_a_second_host_is_looked_at_too():
    scope = scope_of()
    scope["headers"].append((b"host", b"evil.example"))
    with pytest.raises(HostRefused):
        rules().check_host(scope)


@pytest.mark.parametrize("more", [{}, {"api_keys": KEY}, {"auth": "none"}])
def test_hosts_can_be_named(more):
    named = rules(edge={"allowed_hosts": "app.example.com, *.inner.example"}, **more)
    for host in ("app.example.com:443", "APP.example.com.", "a.b.inner.example", "127.0.0.1"):
        named.check_host(scope_of(host=host))
    for host in ("example.com", "xapp.example.com", "inner.example", "evil.example"):
        with pytest.raises(HostRefused):
            named.check_host(scope_of(host=host))
    rules(edge={"allowed_hosts": "*"}, **more).check_host(scope_of(host="any.example"))


def test_the_name_by_which_a_test_reaches_its_app_is_its_own():
    rules().check_host(scope_of(host="testserver", server=("testserver", 80)))


def test_a_page_of_another_origin_changes_nothing():
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for origin in (PAGE, "null", "http://evil.example:8123", "http://localhost.evil.example"):
            with pytest.raises(PageRefused, match="ALLOWED_ORIGINS"):
                rules().check(scope_of(method, origin=origin, content_type="application/json"))
        # An older browser tells this alone.
        with pytest.raises(PageRefused):
            rules().check(scope_of(method, sec_fetch_site="cross-site"))
    for method in ("GET", "HEAD", "OPTIONS"):
        rules().check(scope_of(method, origin=PAGE))


def test_pages_of_this_machine_and_of_the_server_itself_may():
    for origin in ("http://localhost:3000", "http://localhost:8123", "https://app.localhost"):
        rules().check(scope_of(origin=origin, sec_fetch_site="same-site"))
    behind = rules(auth="none")
    behind.check(scope_of(host="app.example.com", origin="https://app.example.com"))
    for origin in ("http://localhost:3000", PAGE):
        with pytest.raises(PageRefused):
            behind.check(scope_of(host="app.example.com", origin=origin))


def test_pages_can_be_named():
    by_setting = rules(edge={"allowed_origins": f"{PAGE}, https://b.example"})
    by_manifest = rules(entry=CorsEntry(allow_origin_regex=r"https://.*\.example"))
    for named in (by_setting, by_manifest):
        named.check(scope_of(origin=PAGE))
        with pytest.raises(PageRefused):
            named.check(scope_of(origin="https://evil.test"))
    rules(edge={"allowed_origins": "*"}).check(scope_of(origin="https://any.test"))


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=a",
        "text/plain; application/json",
        "application/jsonx",
        "",
    ],
)
def test_what_a_page_can_send_unasked_is_no_body(kind):
    """A form or a script sends these without asking first, perhaps without an origin."""
    headers = {} if kind is None else {"content_type": kind}
    for more in ({"content_length": "2"}, {"transfer_encoding": "chunked"}):
        with pytest.raises(JSONRequired, match="Content-Type: application/json"):
            rules().check(scope_of(**headers, **more))
        rules(api_keys=KEY).check(scope_of(**headers, **more))
    # A cancel has none.
    rules().check(scope_of(**headers, content_length="0"))
    rules().check(scope_of(**headers))


def test_json_is_json():
    for kind in ("application/json", "Application/JSON; charset=utf-8", "application/a2a+json"):
        rules().check(scope_of(content_type=kind, content_length="2"))


def test_where_handlers_may_know_a_caller_by_cookies_no_page_sends_what_it_need_not_ask_for():
    handled = web_pages(None, Settings.model_validate({"auth": "required"}), handled=True)
    for more in ({}, {"authorization": "Basic YTpi"}, {"cookie": "session=1"}):
        for kind in ({}, {"content_type": "text/plain"}):
            with pytest.raises(JSONRequired):
                handled.check(scope_of(content_length="2", **kind, **more))
        with pytest.raises(PageRefused):
            handled.check(scope_of(origin=PAGE, **more))
        with pytest.raises(PageRefused):
            handled.check(scope_of(sec_fetch_site="cross-site", **more))
        handled.check(scope_of(origin="http://localhost:8123", **more))
    # For these a browser asks first, and CORS answers.
    handled.check(scope_of(origin=PAGE, content_type="application/json", content_length="2"))
    for key in ({"authorization": "Bearer a"}, {"x_api_key": "a"}):
        handled.check(scope_of(origin=PAGE, content_length="2", **key))
    for method in ("PUT", "PATCH", "DELETE"):
        handled.check(scope_of(method, origin=PAGE))


def test_with_a_key_the_origin_says_nothing():
    rules(api_keys=KEY).check(scope_of(origin=PAGE))


@pytest.mark.parametrize("more", [{}, {"api_keys": KEY}])
def test_a_websocket_asks_nobody_so_its_page_is_looked_at_with_a_key_too(more):
    refused = rules(**more)
    with pytest.raises(PageRefused):
        refused.check_connection(scope_of("GET", kind="websocket", origin=PAGE))
    refused.check_connection(scope_of("GET", kind="websocket"))
    refused.check_connection(scope_of("GET", kind="websocket", origin="http://localhost:8123"))
    with pytest.raises(HostRefused):
        rules().check_connection(
            scope_of("GET", kind="websocket", host="evil.example", origin="http://evil.example")
        )


def test_origins_match_whole():
    origins = Origins(["https://a.example"], [r"https://b\.example"])
    assert origins.have("https://b.example")
    assert not origins.have("https://b.example.evil")
    assert not origins.have("https://a.example/")


@pytest.fixture
def settings(database_url, tmp_path):
    def make(http=None, **more):
        manifest = write_manifest(tmp_path, **({"http": http} if http else {}))
        return settings_for(database_url, manifest, **more)

    return make


async def test_no_page_runs_a_graph_and_no_other_name_is_answered(settings):
    doors = {"server": {"grace_seconds": 0, "doors": "openai,mcp,a2a"}}
    asked: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/threads", {}),
        ("/runs/wait", {"assistant_id": "ctx"}),
        ("/chat", {"message": "a"}),
        ("/v1/chat/completions", {"model": "ctx", "messages": []}),
        ("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
        ("/threads/x/commands", {"id": 1, "method": "run.start", "params": {}}),
    )
    async with app_client(settings(**doors)) as client:
        for path, body in asked:
            answer = await client.post(path, json=body, headers={"Origin": PAGE})
            assert answer.status_code == 403, (path, answer.text)
            assert "ALLOWED_ORIGINS" in answer.text
            answer = await client.post(path, content=b"{}", headers={"Content-Type": "text/plain"})
            assert answer.status_code == 415, (path, answer.text)
            answer = await client.post(path, json=body, headers={"Host": "evil.example"})
            assert answer.status_code == 403, (path, answer.text)
            assert "ALLOWED_HOSTS" in answer.text
        for path in ("/docs", "/info", "/health", "/threads/x", "/metrics", "/"):
            answer = await client.get(path, headers={"Host": "evil.example"})
            assert (answer.status_code, answer.json()["code"]) == (403, "host_refused"), path
        for path in ("/livez", "/readyz", "/startupz", "/ok"):
            answer = await client.get(path, headers={"Host": "evil.example"})
            assert answer.status_code in (200, 503), path
        # The SDK, curl with a header, a page of this machine.
        for headers in ({}, {"Origin": "http://localhost:3000"}, {"Sec-Fetch-Site": "none"}):
            assert (await client.post("/threads", json={}, headers=headers)).status_code == 200


async def test_a_server_with_keys_is_closed_to_pages_until_they_are_named(settings):
    preflight = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, x-api-key",
    }
    async with app_client(settings(api_keys=KEY)) as client:
        answer = await client.options("/threads", headers=preflight)
        assert answer.status_code == 400
        assert "access-control-allow-origin" not in answer.headers
        # With a key, a body without a type is read as JSON, and other types are refused.
        for kind, status in (({}, 200), ({"Content-Type": "text/plain"}, 422)):
            sent = {"x-api-key": KEY, **kind}
            answer = await client.post("/threads/search", content=b'{"limit": 1}', headers=sent)
            assert answer.status_code == status
        sent = {"Origin": PAGE, "x-api-key": KEY}
        answer = await client.post("/threads", json={}, headers=sent)
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers
    named = settings(api_keys=KEY, edge={"allowed_origins": PAGE})
    async with app_client(named) as client:
        answer = await client.options("/threads", headers=preflight)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
        answer = await client.post("/threads", json={}, headers=sent)
        assert answer.headers["access-control-allow-origin"] == PAGE


def test_pages_that_an_app_of_the_user_allows_may_use_the_api():
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=[PAGE])
    allowed = web_pages(None, Settings(), app)
    allowed.check(scope_of(origin=PAGE))
    with pytest.raises(PageRefused):
        allowed.check(scope_of(origin="https://b.example"))


def test_httpx_and_starlette_reach_an_app_by_the_name_of_their_url():
    """What the rule for names within a test relies on."""
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask():
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://any"
        ) as client:
            await client.get("/")

    asyncio.run(ask())
    assert seen["server"][0] == "any"
