"""What assistants' graphs look like, through the SDK."""

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError

from headrace.ids import uuid7

pytestmark = pytest.mark.acceptance


@pytest.fixture
async def client(forms_server):
    async with get_client(url=forms_server.url) as opened:
        yield opened


async def test_a_graph_is_drawn_as_the_original_draws_it(client):
    assert await client.assistants.get_graph("agent") == {
        "nodes": [
            {"id": "__start__", "type": "runnable", "data": {"name": "__start__"}},
            {"id": "reply", "type": "runnable", "data": {"name": "reply"}},
            {"id": "__end__"},
        ],
        "edges": [
            {"source": "__start__", "target": "reply"},
            {"source": "reply", "target": "__end__"},
        ],
    }


async def test_xray_looks_into_subgraphs_as_deep_as_it_says(client):
    async def inner(xray):
        drawn = await client.assistants.get_graph("nested", xray=xray)
        return [node["id"] for node in drawn["nodes"] if not node["id"].startswith("__")]

    assert await inner(False) == ["child"]
    assert await inner(1) == ["child:deep"]
    assert await inner(True) == ["child:deep:inner"]
    with pytest.raises(UnprocessableEntityError, match="xray"):
        await inner(-1)


async def test_schemas_tell_what_goes_in_and_out(client):
    schemas = await client.assistants.get_schemas("ctx")
    assert schemas["graph_id"] == "ctx"
    for kind in ("input_schema", "output_schema", "state_schema"):
        assert schemas[kind]["properties"]["topic"] == {"title": "Topic", "type": "string"}
    for kind in ("config_schema", "context_schema"):
        assert schemas[kind]["title"] == "Settings"
        assert list(schemas[kind]["properties"]) == ["model_name"]
    strict = await client.assistants.get_schemas("strict")
    assert strict["context_schema"]["properties"]["model_name"]["default"] == "none"
    messages = (await client.assistants.get_schemas("agent"))["state_schema"]
    assert messages["properties"]["messages"]["type"] == "array"
    assert "AIMessage" in messages["$defs"]
    without = await client.assistants.get_schemas("memo")
    assert (without["config_schema"], without["context_schema"]) == ({}, None)


async def test_subgraphs_are_found_by_namespace(client):
    found = client.assistants.get_subgraphs
    assert list(await found("nested")) == ["child"]
    assert list(await found("nested", recurse=True)) == ["child", "child|deep"]
    (inner,) = (await found("nested", "child|deep")).values()
    assert inner["graph_id"] == "nested"
    assert "messages" in inner["input_schema"]["properties"]
    assert await found("nested", "nowhere") == {}
    assert await found("agent") == {}


async def test_a_factory_makes_the_graph_of_the_assistant(client):
    async def names(assistant):
        drawn = await client.assistants.get_graph(assistant)
        return {node["id"] for node in drawn["nodes"]} - {"__start__", "__end__"}

    mine = await client.assistants.create("made", config={"configurable": {"node": "mine"}})
    assert await names("made") == {"plain"}
    assert await names(mine["assistant_id"]) == {"mine"}
    await client.assistants.update(mine["assistant_id"], context={"node": "new"})
    assert await names(mine["assistant_id"]) == {"new"}
    schemas = await client.assistants.get_schemas(mine["assistant_id"])
    assert "made_for" in schemas["state_schema"]["properties"]


async def test_of_an_unknown_assistant_nothing_is_told(client):
    for look in (client.assistants.get_graph, client.assistants.get_schemas):
        with pytest.raises(NotFoundError, match="not found"):
            await look(str(uuid7()))
        with pytest.raises(UnprocessableEntityError, match="one of the graphs"):
            await look("nope")
