"""Assistants through the SDK: their life, their versions, and what runs make of them."""

from uuid import uuid4

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.errors import (
    BadRequestError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    UnprocessableEntityError,
)

from headrace.ids import system_assistant_id

pytestmark = pytest.mark.acceptance

HELLO = {"messages": [{"role": "user", "content": "hi"}]}
CONFIG = {"configurable": {"x": 1}, "tags": ["t"]}


@pytest.fixture
async def client(forms_server):
    async with get_client(url=forms_server.url) as opened:
        yield opened


async def created(client, **changes):
    given = {"name": "mine", "metadata": {"k": 1}, "config": CONFIG, "description": "d"} | changes
    return await client.assistants.create("agent", **given)


async def test_it_is_created_as_it_is_read(client):
    made = await created(client)
    assert {
        "graph_id": "agent",
        "name": "mine",
        "description": "d",
        "version": 1,
        "metadata": {"k": 1},
        "config": CONFIG,
        "context": {"x": 1},
    }.items() <= made.items()
    assert await client.assistants.get(made["assistant_id"]) == made
    by_context = await created(client, config=None, context={"y": 2})
    assert by_context["config"] == {"configurable": {"y": 2}}
    assert by_context["context"] == {"y": 2}
    nameless = await client.assistants.create("agent")
    assert (nameless["name"], nameless["config"], nameless["context"]) == ("Untitled", {}, {})


async def test_an_id_is_taken_once(client):
    made = await created(client)
    with pytest.raises(ConflictError, match="already exists"):
        await created(client, assistant_id=made["assistant_id"])
    again = await created(
        client, assistant_id=made["assistant_id"], if_exists="do_nothing", name="other"
    )
    assert again == made


async def test_what_cannot_be_is_refused_with_what_to_change(client):
    with pytest.raises(NotFoundError, match=r"Expected one of: \['agent'"):
        await client.assistants.create("missing")
    with pytest.raises(BadRequestError, match="Send context alone"):
        await created(client, context={"z": 1})
    with pytest.raises(UnprocessableEntityError, match=r"configurable must be an object"):
        await created(client, config={"configurable": [1]})
    with pytest.raises(UnprocessableEntityError, match="UUID or one of the graphs: agent"):
        await client.assistants.get("nope")
    for refused in (
        client.assistants.get(str(uuid4())),
        client.assistants.update(str(uuid4()), name="x"),
        client.assistants.delete(str(uuid4())),
        client.assistants.get_versions(str(uuid4())),
        client.assistants.set_latest(str(uuid4()), 1),
    ):
        with pytest.raises(NotFoundError, match="Assistant with ID"):
            await refused


async def test_each_update_is_a_version_and_any_can_be_the_latest(client):
    made = await created(client)
    assistant_id = made["assistant_id"]
    second = await client.assistants.update(assistant_id, name="mine2", metadata={"z": 2})
    assert (second["version"], second["name"], second["metadata"]) == (2, "mine2", {"k": 1, "z": 2})
    assert (second["config"], second["context"]) == (CONFIG, {"x": 1})
    assert second["updated_at"] > made["updated_at"]

    versions = await client.assistants.get_versions(assistant_id)
    assert [one["version"] for one in versions] == [2, 1]
    assert versions[1] == {key: value for key, value in made.items() if key != "updated_at"}
    assert versions[0]["created_at"] == second["updated_at"]
    assert [one["version"] for one in await client.assistants.get_versions(assistant_id, limit=1)]
    rest = await client.assistants.get_versions(assistant_id, limit=1, offset=1)
    assert [one["version"] for one in rest] == [1]
    found = await client.assistants.get_versions(assistant_id, metadata={"z": 2})
    assert [one["version"] for one in found] == [2]

    first_again = await client.assistants.set_latest(assistant_id, 1)
    assert first_again == made | {"updated_at": first_again["updated_at"]}
    with pytest.raises(NotFoundError, match="no version 9"):
        await client.assistants.set_latest(assistant_id, 9)
    third = await client.assistants.update(assistant_id, name="mine3")
    assert (third["version"], third["metadata"]) == (3, {"k": 1})


async def test_config_and_context_stay_alike_over_updates(client):
    assistant_id = (await created(client))["assistant_id"]
    update = client.assistants.update
    new = await update(assistant_id, context={"y": 2})
    assert (new["config"], new["context"]) == (
        {"configurable": {"y": 2}, "tags": ["t"]},
        {"y": 2},
    )
    new = await update(assistant_id, config={"tags": ["u"]})
    assert (new["config"], new["context"]) == (
        {"configurable": {"y": 2}, "tags": ["u"]},
        {"y": 2},
    )
    assert (await update(assistant_id, config=new["config"], context=new["context"]))[
        "version"
    ] == 4
    new = await update(assistant_id, config={})
    assert (new["config"], new["context"]) == (
        {"configurable": {"y": 2}, "tags": ["u"]},
        {"y": 2},
    )
    new = await update(assistant_id, context={})
    assert (new["config"], new["context"]) == ({"tags": ["u"]}, {})


async def test_runs_use_the_latest_version(client):
    made = await client.assistants.create("ctx", context={"model_name": "old", "y": 1})
    await client.assistants.update(made["assistant_id"], context={"model_name": "new", "y": 1})

    async def seen(**given):
        values = await client.runs.wait(None, made["assistant_id"], input={"topic": "x"}, **given)
        return values["saw_configurable"], values["saw_context"]

    configurable, context = await seen()
    assert (configurable["model_name"], context) == ("new", {"model_name": "new", "y": 1})
    for given in (
        {"context": {"model_name": "mine"}},
        {"config": {"configurable": {"model_name": "mine"}}},
    ):
        configurable, context = await seen(**given)
        assert (configurable["model_name"], configurable["y"]) == ("mine", 1)
        assert context == {"model_name": "mine", "y": 1}
    await client.assistants.set_latest(made["assistant_id"], 1)
    assert (await seen())[1]["model_name"] == "old"


async def test_a_strict_context_gets_what_it_knows(client):
    values = await client.runs.wait(
        None,
        "strict",
        input={"topic": "x"},
        config={"configurable": {"model_name": "m", "unknown": 1}},
    )
    assert values["saw_context"] == {"model_name": "m"}
    assert values["saw_configurable"]["unknown"] == 1


async def test_deleted_it_is_gone_with_its_versions(client):
    assistant_id = (await created(client))["assistant_id"]
    assert await client.assistants.delete(assistant_id) is None
    with pytest.raises(NotFoundError, match=f"Assistant with ID {assistant_id} not found"):
        await client.assistants.delete(assistant_id)
    assert (await created(client, assistant_id=assistant_id))["version"] == 1
    assert len(await client.assistants.get_versions(assistant_id)) == 1


async def test_deleted_with_its_threads_it_leaves_none_and_no_run(client):
    mine = await created(client)
    kept = await created(client)
    threads = {}
    for assistant in (mine, kept):
        threads[assistant["name"]] = thread = await client.threads.create()
        await client.runs.wait(thread["thread_id"], assistant["assistant_id"], input=HELLO)
    waiting = await client.threads.create()
    run = await client.runs.create(
        waiting["thread_id"], mine["assistant_id"], input=HELLO, after_seconds=3600
    )
    await client.assistants.delete(mine["assistant_id"], delete_threads=True)
    found = await client.threads.search(metadata={"assistant_id": mine["assistant_id"]})
    assert found == []
    assert len(await client.threads.search(metadata={"assistant_id": kept["assistant_id"]})) == 1
    with pytest.raises(NotFoundError):
        await client.runs.get(waiting["thread_id"], run["run_id"])


async def test_the_first_assistant_of_a_graph_is_the_servers(client):
    by_name = await client.assistants.get("agent")
    assert by_name["assistant_id"] == str(system_assistant_id("agent"))
    assert [one["version"] for one in await client.assistants.get_versions("agent")] == [1]
    for refused in (
        client.assistants.update("agent", name="x"),
        client.assistants.delete("agent"),
        client.assistants.set_latest(by_name["assistant_id"], 1),
    ):
        with pytest.raises(PermissionDeniedError, match="create one of your own"):
            await refused


async def test_searches_filter_sort_select_and_page(client):
    mark = str(uuid4())
    made = [await created(client, name=f"{mark} {n}", metadata={"mark": mark}) for n in "bca"]
    search = client.assistants.search
    newest_first = await search(metadata={"mark": mark})
    assert [one["assistant_id"] for one in newest_first] == [
        one["assistant_id"] for one in reversed(made)
    ]
    by_name = await search(metadata={"mark": mark}, sort_by="name", sort_order="asc")
    assert [one["name"][-1] for one in by_name] == ["a", "b", "c"]
    found = await search(name=f"{mark.upper()} A", select=["name", "version"])
    assert found == [{"name": f"{mark} a", "version": 1}]
    page = await search(metadata={"mark": mark}, limit=2, response_format="object")
    assert (len(page["assistants"]), page["next"]) == (2, "2")
    page = await search(metadata={"mark": mark}, limit=2, offset=2, response_format="object")
    assert (len(page["assistants"]), page["next"]) == (1, None)
    assert await search(metadata={"mark": mark}, graph_id="ctx") == []
    assert await client.assistants.count(metadata={"mark": mark}) == 3
    assert await client.assistants.count(graph_id="nested", name="NEST") == 1
    with pytest.raises(UnprocessableEntityError, match="select"):
        await search(select=["nope"])
