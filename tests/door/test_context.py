"""The context of a run: the schema's own defaults, and a refusal where something is missing."""

from typing import Any

import pytest

from tests.support.door import Door

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOTHING: tuple[dict[str, Any], ...] = (
    {},
    {"context": {}},
    {"context": None},
    {"config": {"configurable": {}}},
)
DEFAULTS = {
    "plain": "Plain(model='default', tags=['tag'], nested=Nested(deep=7))",
    "outer": "Plain(model='default', tags=['tag'], nested=Nested(deep=7))",
    "made": "Plain(model='default', tags=['tag'], nested=Nested(deep=7))",
    "model": "Model(model='default', number=3)",
    "keys": "None",
    "none": "None",
}


@pytest.mark.parametrize("graph", DEFAULTS)
async def test_without_a_context_a_graph_has_the_defaults_of_its_schema(door: Door, graph):
    for said in NOTHING:
        assert (await door.wait(None, graph, input={}, **said)).json()["seen"] == DEFAULTS[graph]


@pytest.mark.parametrize("said", [{"context": {"zzz": 1}}, {"config": {"configurable": {"z": 1}}}])
async def test_what_a_schema_does_not_know_leaves_its_defaults(door: Door, said):
    seen = (await door.wait(None, "plain", input={}, **said)).json()["seen"]
    assert seen == DEFAULTS["plain"]


async def test_what_is_given_stands_above_the_assistant_and_that_above_the_defaults(door: Door):
    made = await door.post("/assistants", {"graph_id": "plain", "context": {"model": "own"}})
    assistant = made.json()["assistant_id"]
    for said, seen in (
        ({}, "Plain(model='own', tags=['tag'], nested=Nested(deep=7))"),
        ({"context": {}}, "Plain(model='own', tags=['tag'], nested=Nested(deep=7))"),
        ({"context": {"tags": []}}, "Plain(model='own', tags=[], nested=Nested(deep=7))"),
        (
            {"context": {"model": "mine"}},
            "Plain(model='mine', tags=['tag'], nested=Nested(deep=7))",
        ),
    ):
        assert (await door.wait(None, assistant, input={}, **said)).json()["seen"] == seen


@pytest.mark.parametrize(("graph", "name"), [("needy", "must"), ("needy_model", "must")])
@pytest.mark.parametrize("path", ["/runs/wait", "/runs/stream", "/runs"])
async def test_what_is_missing_is_named_before_a_run_is_made(door: Door, graph, name, path):
    before = await door.threads()
    for said in (*NOTHING, {"context": {"other": 2}}):
        refused = await door.post(path, {"assistant_id": graph, "input": {}, **said})
        assert refused.status_code == 422
        assert name in refused.json()["detail"]
    assert await door.threads() == before


async def test_what_is_needed_may_come_from_either_side_and_under_its_alias(door: Door):
    ran = await door.wait(None, "needy", input={}, context={"must": "x"})
    assert ran.json()["seen"] == "Needy(must='x', other=1)"
    ran = await door.wait(None, "needy", input={}, config={"configurable": {"must": "x"}})
    assert ran.json()["seen"] == "Needy(must='x', other=1)"
    ran = await door.wait(None, "needy_model", input={}, context={"needed": "x"})
    assert ran.json()["seen"] == "NeedyModel(must='x', other=1)"
    made = await door.post("/assistants", {"graph_id": "needy", "context": {"must": "own"}})
    ran = await door.wait(None, made.json()["assistant_id"], input={})
    assert ran.json()["seen"] == "Needy(must='own', other=1)"
