"""The client's address: what a proxy says, if it is one of ours; never what a client says."""

import json
from typing import Any

import httpx
import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from headrace.edge_settings import EdgeSettings
from tests.support.live import live_server
from tests.support.waiting import wait_until

PROXIES = "10.0.0.0/8, 2001:db8::/32, 192.0.2.1"

#: The peer, the values of ``X-Forwarded-For``, and who the client is.
MATRIX = {
    "no proxy": ("198.51.100.7", [], "198.51.100.7"),
    "a stranger says so": ("198.51.100.7", ["203.0.113.1"], "198.51.100.7"),
    "a stranger says a proxy": ("198.51.100.7", ["10.0.0.1"], "198.51.100.7"),
    "a proxy": ("10.0.0.1", ["203.0.113.1"], "203.0.113.1"),
    "a proxy by its address": ("192.0.2.1", ["203.0.113.1"], "203.0.113.1"),
    "a neighbour of that address": ("192.0.2.2", ["203.0.113.1"], "192.0.2.2"),
    "a proxy over IPv6": ("2001:db8::5", ["2001:db9::1"], "2001:db9::1"),
    "the client has forged one": ("10.0.0.1", ["6.6.6.6, 203.0.113.1"], "203.0.113.1"),
    "the client has forged a local one": ("10.0.0.1", ["127.0.0.1, 203.0.113.1"], "203.0.113.1"),
    "two proxies": ("10.0.0.1", ["203.0.113.1, 10.0.0.2"], "203.0.113.1"),
    "two proxies, and forged": ("10.0.0.1", ["6.6.6.6, 203.0.113.1, 10.0.0.2"], "203.0.113.1"),
    "the client says our proxy": ("10.0.0.1", ["10.0.0.9, 203.0.113.1"], "203.0.113.1"),
    "two headers": ("10.0.0.1", ["6.6.6.6", "203.0.113.1"], "203.0.113.1"),
    "two headers of two proxies": ("10.0.0.1", ["203.0.113.1", "10.0.0.2"], "203.0.113.1"),
    "a word": ("10.0.0.1", ["<script>, 203.0.113.1"], "203.0.113.1"),
    "spaces": ("10.0.0.1", ["6.6.6.6 ,  203.0.113.1 "], "203.0.113.1"),
    "another header": ("10.0.0.1", [], "10.0.0.1"),
}


@pytest.mark.parametrize("case", MATRIX)
async def test_the_last_address_that_is_no_proxy_is_the_client(case):
    peer, forwarded, client = MATRIX[case]
    assert await seen_client(PROXIES, peer, forwarded) == client


@pytest.mark.parametrize("case", MATRIX)
async def test_nobody_is_believed_until_somebody_is_named(case):
    peer, forwarded, _ = MATRIX[case]
    assert await seen_client("", peer, forwarded) == peer
    assert await seen_client("", "127.0.0.1", forwarded) == "127.0.0.1"


async def seen_client(proxies, peer, forwarded):
    seen: dict[str, Any] = {}

    async def app(scope, receive, send):
        seen.update(scope)

    trusted = [str(one) for one in EdgeSettings(trusted_proxies=proxies).proxy_networks]
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    headers += [(b"x-real-ip", b"6.6.6.6"), (b"forwarded", b"for=6.6.6.6")]
    scope: Any = {"type": "http", "client": (peer, 1), "scheme": "http", "headers": headers}
    unused: Any = None
    await ProxyHeadersMiddleware(app, trusted)(scope, unused, unused)
    return seen["client"][0]


@pytest.mark.acceptance
@pytest.mark.parametrize(("proxies", "client"), [("", "127.0.0.1"), ("127.0.0.0/8", "203.0.113.1")])
def test_the_log_names_the_client(tmp_path, database_url, proxies, client):
    """Whatever another program has put into the environment."""
    environment = {
        "HEADRACE_AUTH": "none",
        "HEADRACE_OBSERVABILITY__LOG_FORMAT": "json",
        "HEADRACE_EDGE__TRUSTED_PROXIES": proxies,
        "FORWARDED_ALLOW_IPS": "*",
    }
    with live_server(tmp_path, database_url, processes=1, **environment) as running:
        headers = {"X-Forwarded-For": "6.6.6.6, 203.0.113.1", "X-Request-Id": "of-this-test"}
        httpx.get(running.url + "/threads/x", headers=headers)

        def lines():
            found = [json.loads(one) for one in running.log().splitlines() if one[:1] == "{"]
            return [one for one in found if one.get("request_id") == "of-this-test"]

        wait_until(lambda: any("client" in one for one in lines()))
        assert {one["client"] for one in lines() if "client" in one} == {client}
