"""Which types are made again from what checkpoints hold."""

import json
from dataclasses import dataclass

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Interrupt

from headrace.checkpoints.serializer import build_serializer
from headrace.graphs.persistence_entries import CheckpointerEntry
from tests.support.apps import app_client, settings_for, write_manifest
from tests.support.exposition import Exposition


@dataclass
class Thing:
    number: int


@dataclass
class Other:
    number: int


HERE = Thing.__module__


def through(serializer, value):
    return serializer.loads_typed(JsonPlusSerializer().dumps_typed(value))


def test_with_a_list_only_its_types_and_langgraphs_own_are_made_again():
    serializer = build_serializer(msgpack_types=[(HERE, "Thing")])
    assert through(serializer, Thing(1)) == Thing(1)
    assert through(serializer, Other(1)) == {"number": 1}
    message = HumanMessage("hi", id="1")
    assert through(serializer, [message]) == [message]


@pytest.mark.parametrize("types", [None, [], True, [(HERE, "Thing")]], ids=str)
@pytest.mark.parametrize(
    "value",
    [
        2**70,
        {"a": [-(2**70), 2**64, 1e20, True]},
        Thing(2**70),
        [AIMessage("", id="1", tool_calls=[{"name": "t", "args": {"n": 2**70}, "id": "1"}])],
    ],
    ids=["alone", "nested", "dataclass", "message"],
)
def test_integers_beyond_64_bits_stay_what_they_are(types, value):
    serializer = build_serializer(msgpack_types=types)
    read = serializer.loads_typed(serializer.dumps_typed(value))
    assert read in (value, {"number": 2**70})


def test_half_a_surrogate_pair_in_a_key_fails_no_run():
    serializer = build_serializer()
    read = serializer.loads_typed(serializer.dumps_typed({"a\ud800": ["\ud800", (1, 2)]}))
    assert read == {"a\N{REPLACEMENT CHARACTER}": ["\N{REPLACEMENT CHARACTER}", [1, 2]]}


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, (2, 3), {4}], b"k": 1.5},
        [HumanMessage("hi", id="1")],
        Interrupt(value="x", id="i"),
        Thing(1),
        "text",
        True,
        None,
        b"bytes",
    ],
    ids=lambda value: type(value).__name__,
)
def test_all_else_is_stored_as_langgraphs_own_does(value):
    assert build_serializer().dumps_typed(value) == JsonPlusSerializer().dumps_typed(value)


def test_an_empty_list_is_the_strictest():
    assert through(build_serializer(msgpack_types=[]), Thing(1)) == {"number": 1}


def test_every_type_may_be_allowed():
    assert through(build_serializer(msgpack_types=True), Other(1)) == Other(1)


@pytest.mark.parametrize(
    ("allowed", "read"),
    [
        ([(HERE, "Thing")], Thing(1)),
        (True, Thing(1)),
        ([("elsewhere", "Thing")], None),
        (None, None),
    ],
)
def test_types_of_old_checkpoints(allowed, read):
    stored = {"lc": 2, "type": "constructor", "id": [*HERE.split("."), "Thing"], "args": [1]}
    serializer = build_serializer(json_types=allowed)
    found = serializer.loads_typed(("json", json.dumps(stored).encode()))
    assert (found if isinstance(found, Thing) else None) == read


def test_what_is_pickled_is_read_only_where_that_is_asked_for():
    unwritable = {"value": range(3)}
    with pytest.raises(TypeError):
        build_serializer().dumps_typed(unwritable)
    pickled = build_serializer(pickle_fallback=True).dumps_typed(unwritable)
    assert pickled[0] == "pickle"
    assert build_serializer(pickle_fallback=True).loads_typed(pickled) == unwritable
    with pytest.raises(NotImplementedError):
        build_serializer().loads_typed(pickled)


@pytest.mark.parametrize(
    "written",
    [["a", "b", "Type"], ["a.b", "Type"], "a.b.Type", "a.b:Type"],
)
def test_a_type_may_be_written_in_several_ways(written):
    entry = CheckpointerEntry.model_validate({"serde": {"allowed_msgpack_modules": [written]}})
    assert entry.serde.allowed_msgpack_modules == (("a.b", "Type"),)


def test_no_word_is_langgraphs_choice_and_false_is_no_type():
    assert CheckpointerEntry.model_validate({"serde": None}).serde.allowed_msgpack_modules is None
    entry = CheckpointerEntry.model_validate({"serde": {"allowed_msgpack_modules": False}})
    assert entry.serde.allowed_msgpack_modules == ()


@pytest.mark.parametrize(
    ("listed", "seen"), [([["forms", "Thing"]], "Thing"), ([["forms", "Other"]], "dict")]
)
async def test_a_run_that_is_resumed_finds_the_types_that_the_manifest_lists(
    database_url, tmp_path, listed, seen
):
    checkpointer = {"serde": {"allowed_msgpack_modules": listed}}
    manifest = write_manifest(tmp_path, checkpointer=checkpointer)
    async with app_client(settings_for(database_url, manifest)) as client:
        thread = (await client.post("/threads", json={})).json()["thread_id"]
        body = {"assistant_id": "typed", "input": {"answer": "none"}}
        waiting = await client.post(f"/threads/{thread}/runs/wait", json=body)
        assert waiting.json()["__interrupt__"]
        body = {"assistant_id": "typed", "command": {"resume": "yes"}}
        answer = await client.post(f"/threads/{thread}/runs/wait", json=body)
        assert answer.json()["answer"] == f"yes {seen}"
        exposed = (await client.get("/metrics")).text
    blocked = Exposition(exposed).value("headrace_checkpoint_types_blocked_total")
    assert (blocked > 0) is (seen == "dict")
