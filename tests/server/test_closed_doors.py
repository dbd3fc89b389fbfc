"""Doors that nobody has named: each of their paths answers 404, and says how to open it."""

import pytest

from tests.support.apps import app_client, settings_for, write_manifest

_PATHS = {
    "openai": (
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/responses"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/agent"),
    ),
    "mcp": (("POST", "/mcp"), ("POST", "/mcp/"), ("GET", "/mcp"), ("DELETE", "/mcp")),
    "a2a": (
        ("POST", "/a2a/agent"),
        ("POST", "/a2a/agent/"),
        ("GET", "/a2a/agent/.well-known/agent-card.json"),
        ("GET", "/.well-known/agent-card.json"),
    ),
}


@pytest.mark.parametrize("opened", ["", "openai", "mcp", "a2a"])
async def test_a_closed_door_is_not_there(tmp_path, database_url, opened):
    settings = settings_for(database_url, write_manifest(tmp_path), server={"doors": opened})
    async with app_client(settings) as client:
        for door, paths in _PATHS.items():
            for method, path in paths:
                answer = await client.request(method, path, json={})
                code = answer.json().get("code")
                if door == opened:
                    assert code != "door_closed", path
                else:
                    assert (answer.status_code, code) == (404, "door_closed"), path
                    assert door in answer.json()["detail"]
        flags = (await client.get("/info")).json()["flags"]
        assert {door: flags[door] for door in _PATHS} == {door: door == opened for door in _PATHS}


async def test_what_is_not_below_v1_is_refused_as_openai_does(tmp_path, database_url):
    settings = settings_for(database_url, write_manifest(tmp_path), server={"doors": "openai"})
    async with app_client(settings) as client:
        for method, path, status, code in (
            ("POST", "/v1/embeddings", 404, "not_found"),
            ("GET", "/v1/files/abc", 404, "not_found"),
            ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ):
            answer = await client.request(method, path)
            assert answer.status_code == status
            error = answer.json()["error"]
            assert (error["code"], error["type"]) == (code, "invalid_request_error")
            assert path in error["message"]
        assert (await client.get("/v2/embeddings")).json()["code"] == "not_found"


async def test_a_card_names_the_public_address(tmp_path, database_url):
    """Not what the header Host of some request says."""
    server = {"doors": "a2a", "public_url": "https://agents.example.com/below/"}
    edge = {"allowed_hosts": "evil.example"}
    settings = settings_for(database_url, write_manifest(tmp_path), server=server, edge=edge)
    async with app_client(settings, host="evil.example") as client:
        card = (await client.get("/a2a/ctx/.well-known/agent-card.json")).json()
        url = "https://agents.example.com/below/a2a/ctx"
        assert {one["url"] for one in card["supportedInterfaces"]} == {url}


@pytest.mark.parametrize(
    "url",
    ["agents.example.com", "ftp://a.example", "https://a.example?x=1", "https://u:p@a.example"],
)
def test_an_address_that_no_client_can_use_is_refused(tmp_path, url):
    with pytest.raises(ValueError, match="public_url"):
        settings_for("postgresql://h/d", tmp_path / "langgraph.json", server={"public_url": url})
