"""MCP, driven by the ``mcp`` package's client as it is, in both eras of the protocol."""

import base64
import json
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client

from headrace.doors.json_rpc import RpcError, rpc_call
from headrace.mcp_door.versions import is_modern
from tests.support.doors import KEY, NO_CALLS

HELLO = {"messages": [{"role": "user", "content": "hello there"}]}
_META = "io.modelcontextprotocol/"


@asynccontextmanager
async def streams_to(server, path: str = "/mcp/"):
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=20) as http,
        streamable_http_client(f"{server.url}{path}", http_client=http) as streams,
    ):
        yield streams


def texts_of(result: Any) -> list[str]:
    return [one.text for one in result.content]


@pytest.fixture
def http(doors_server):
    with httpx.Client(base_url=doors_server.url, headers={"x-api-key": KEY}) as http:
        yield http


@pytest.mark.acceptance
@pytest.mark.parametrize("path", ["/mcp/", "/mcp"])
async def test_a_session_begins_lists_tools_and_calls_them(doors_server, path):
    async with (
        streams_to(doors_server, path) as (reading, writing, *_),
        ClientSession(reading, writing) as session,
    ):
        begun = await session.initialize()
        assert begun.server_info.name == "headrace"
        assert begun.protocol_version == "2025-11-25"
        assert begun.capabilities.tools is not None
        await session.send_ping()
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert {"speaks", "topics", "fails"} <= set(tools)
        assert tools["topics"].input_schema["type"] == "object"
        assert set(tools["topics"].input_schema["properties"]) == {"topic", "answer"}
        said = await session.call_tool("speaks", HELLO)
        assert said.is_error is False
        assert texts_of(said) == ["You said hello there"]
        assert said.structured_content["messages"][-1]["content"] == "You said hello there"
        told = await session.call_tool("topics", {"topic": "tea"})
        assert told.structured_content == {"topic": "tea", "answer": "All about tea"}
        assert json.loads(texts_of(told)[0]) == told.structured_content


@pytest.mark.acceptance
async def test_the_newest_version_needs_no_session(doors_server):
    async with Client(streams_to(doors_server)) as client:
        assert client.protocol_version == "2026-07-28"
        assert "speaks" in [tool.name for tool in (await client.list_tools()).tools]
        said = await client.call_tool("speaks", HELLO)
        assert texts_of(said)[0] == "You said hello there"
        with pytest.raises(MCPError, match="Unknown tool: 'nothing'"):
            await client.call_tool("nothing", {})


@pytest.mark.acceptance
async def test_what_a_run_cannot_do_is_told_to_the_model(doors_server):
    async with Client(streams_to(doors_server)) as client:
        failed = await client.call_tool("fails", HELLO)
        assert failed.is_error is True
        assert texts_of(failed)[0] == "ValueError: kaboom in node"
        asked = await client.call_tool("asks", HELLO)
        assert asked.is_error is True
        assert texts_of(asked)[0].endswith(": Send it?")


@pytest.mark.acceptance
async def test_an_assistant_is_a_tool_with_its_configuration(doors_server, http):
    body = {
        "graph_id": "tones",
        "name": "Cool",
        "description": "Answers coolly.",
        "context": {"temperature": 0.25},
    }
    made = http.post("/assistants", json=body).json()["assistant_id"]
    async with Client(streams_to(doors_server)) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert (tools[made].title, tools[made].description) == ("Cool", "Answers coolly.")
        assert texts_of(await client.call_tool(made, HELLO))[0] == "0.25 nobody"


@pytest.mark.acceptance
def test_errors_are_those_of_json_rpc(http, doors_server):
    def post(body, **headers):
        return http.post("/mcp", json=body, headers=headers)

    call = {"jsonrpc": "2.0", "id": 7}
    unknown = post({**call, "method": "resources/list"})
    assert unknown.status_code == 200
    assert (unknown.json()["id"], unknown.json()["error"]["code"]) == (7, -32601)
    assert post([{**call, "method": "ping"}]).json()["error"]["code"] == -32600
    assert post({**call, "method": "tools/list", "params": {"cursor": "x"}}).json()["error"][
        "code"
    ] == (-32602)
    broken = http.post("/mcp", content=b"{", headers={"content-type": "application/json"})
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, -32700)
    assert post({"jsonrpc": "2.0", "method": "notifications/initialized"}).status_code == 202
    assert http.get("/mcp").status_code == 405
    name = "x" * 100_000
    for long in ({"method": name}, {"method": "tools/call", "params": {"name": name}}):
        assert len(post({**call, **long}).json()["error"]["message"]) < 500
    future = post({**call, "method": "ping"}, **{"mcp-protocol-version": "2030-01-01"})
    assert future.status_code == 400
    assert future.json()["error"]["code"] == -32022
    assert "2026-07-28" in future.json()["error"]["data"]["supported"]
    stranger = httpx.post(f"{doors_server.url}/mcp", json={**call, "method": "ping"})
    assert stranger.status_code == 401
    assert stranger.json()["error"]["code"] == -32000
    assert stranger.json()["error"]["data"] == {"code": "unauthenticated"}
    assert "x-api-key" in stranger.json()["error"]["message"]
    assert stranger.headers["www-authenticate"].startswith('Bearer realm="headrace", ApiKey ')
    wrong = {"authorization": "Bearer of-somebody-else"}
    stranger = httpx.post(f"{doors_server.url}/mcp", json=call, headers=wrong)
    assert stranger.status_code == 401
    told = "The API key in the header Authorization is not known here."
    assert stranger.json()["error"]["message"] == told
    assert 'error="invalid_token"' in stranger.headers["www-authenticate"]


@pytest.mark.acceptance
@pytest.mark.parametrize(("body", "number"), NO_CALLS)
def test_a_body_that_is_no_call_is_told_as_such(http, body, number):
    answer = http.post("/mcp", content=body, headers={"content-type": "application/json"})
    told = answer.json()
    assert (answer.status_code, told["id"], told["error"]["code"]) == (400, None, number)


@pytest.mark.acceptance
def test_a_body_of_another_type_is_told_as_such(http):
    answer = http.post("/mcp", content=b"{}", headers={"content-type": "text/plain"})
    told = answer.json()["error"]
    assert (answer.status_code, told["code"]) == (400, -32600)
    assert "Content-Type: application/json" in told["message"]


@pytest.mark.acceptance
def test_a_refusal_after_the_call_was_read_repeats_its_id(http):
    def call(text):
        params = {"name": "speaks", "arguments": {"messages": [{"role": "user", "content": text}]}}
        body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
        return http.post("/mcp", json=body, headers={"idempotency-key": key})

    key = uuid4().hex
    assert call("one").json()["id"] == 7
    refused = call("two").json()
    assert (refused["id"], refused["error"]["data"]) == (7, {"code": "idempotency_key_reused"})


@pytest.mark.acceptance
def test_the_newest_version_needs_its_meta_and_its_header(http):
    call = {"jsonrpc": "2.0", "id": 7, "method": "tools/list"}
    version = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"}
    without: list[dict[str, Any]] = [
        {},
        {"_meta": {}},
        {"_meta": {f"{_META}protocolVersion": "2026-07-28"}},
    ]
    for params in without:
        answer = http.post("/mcp", json={**call, "params": params}, headers=version)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32602), params
        assert "clientCapabilities" in answer.json()["error"]["message"]
    meta = {f"{_META}protocolVersion": "2026-07-28", f"{_META}clientCapabilities": {}}
    body = {**call, "params": {"_meta": meta}}
    answer = http.post("/mcp", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)
    assert http.post("/mcp", json=body, headers=version).status_code == 200


def modern(name: str, **headers: str):
    meta = {f"{_META}protocolVersion": "2026-07-28", f"{_META}clientCapabilities": {}}
    params = {"name": name, "_meta": meta}
    call = rpc_call({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    usual = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call"}
    return is_modern(call, {**usual, **headers})


def test_headers_of_the_newest_version_repeat_the_body():
    assert modern("agent", **{"mcp-name": "agent"}) is True
    encoded = base64.b64encode("Bär".encode()).decode()
    assert modern("Bär", **{"mcp-name": f"=?base64?{encoded}?="}) is True
    for wrong in ({"mcp-name": "other"}, {}, {"mcp-name": "=?base64?%?="}):
        with pytest.raises(RpcError) as said:
            modern("agent", **wrong)
        assert said.value.number == -32020
    with pytest.raises(RpcError, match="mcp-method"):
        modern("agent", **{"mcp-name": "agent", "mcp-method": "tools/list"})
