"""Which types are made again from what checkpoints hold."""

import json
import pickle
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, IntEnum, IntFlag

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Interrupt

from headrace.checkpoints.allowed_types import AllowedTypes
from headrace.checkpoints.serializer import build_serializer, showing_values
from headrace.errors import TypeNotAllowed
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


def listing(*names):
    return build_serializer(AllowedTypes([(HERE, name) for name in names]))


def test_only_listed_types_and_langgraphs_own_are_made_again():
    serializer = listing("Thing")
    assert through(serializer, Thing(1)) == Thing(1)
    with pytest.raises(TypeNotAllowed) as refused:
        through(serializer, [Thing(1), Other(1)])
    assert f'Add ["{HERE}", "Other"] to checkpointer.serde.allowed_msgpack_modules' in str(
        refused.value
    )
    with showing_values():
        assert through(serializer, Other(1)) == {"number": 1}
    message = HumanMessage("hi", id="1")
    assert through(serializer, [message]) == [message]


def test_what_graphs_declare_is_made_again_unless_there_is_a_list():
    declared = {(HERE, "Thing")}
    free, bound = AllowedTypes(), AllowedTypes([])
    assert free.declare(declared) == []
    assert bound.declare(declared) == [(HERE, "Thing")]
    assert through(build_serializer(free), Thing(1)) == Thing(1)
    with pytest.raises(TypeNotAllowed):
        through(build_serializer(bound), Thing(1))


class Moment(datetime):
    """A type of times of the user's own."""


def test_times_of_a_listed_type_are_made_again():
    moment = Moment(2026, 1, 2, 3, 4)
    assert through(listing("Moment"), moment) == moment
    with pytest.raises(TypeNotAllowed):
        through(listing(), moment)


@pytest.mark.parametrize("types", [True, [(HERE, "Thing")]], ids=str)
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
    serializer = build_serializer(AllowedTypes(types))
    read = serializer.loads_typed(serializer.dumps_typed(value))
    assert read == value


class Level(IntEnum):
    LOW = 1


class Mixed(int, Enum):
    LOW = 1


class Bits(IntFlag):
    A = 1
    B = 2


class Spelled(int):
    def __str__(self):
        return "two"


def test_enums_of_integers_stay_enums():
    serializer = listing("Level", "Mixed", "Bits")
    value = {"level": Level.LOW, "list": [Mixed.LOW, Bits.A | Bits.B]}
    read = serializer.loads_typed(serializer.dumps_typed(value))
    assert repr(read) == repr(value)


def test_an_integer_with_a_text_of_its_own_stays_an_integer():
    serializer = build_serializer()
    assert serializer.loads_typed(serializer.dumps_typed(Spelled(2))) == 2


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


def test_every_type_may_be_allowed():
    assert through(build_serializer(AllowedTypes(True)), Other(1)) == Other(1)


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
    with showing_values():
        found = serializer.loads_typed(("json", json.dumps(stored).encode()))
    assert found == (read or stored)


def test_nothing_is_pickled_or_read_from_pickle():
    unwritable = {"value": range(3)}
    with pytest.raises(TypeError):
        build_serializer().dumps_typed(unwritable)
    with pytest.raises(TypeNotAllowed) as refused, showing_values():
        build_serializer().loads_typed(("pickle", pickle.dumps(unwritable)))
    assert "pickle" in str(refused.value)


@pytest.mark.parametrize(
    "written",
    [["a", "b", "Type"], ["a.b", "Type"], "a.b.Type", "a.b:Type"],
)
def test_a_type_may_be_written_in_several_ways(written):
    entry = CheckpointerEntry.model_validate({"serde": {"allowed_msgpack_modules": [written]}})
    assert entry.serde.allowed_msgpack_modules == (("a.b", "Type"),)


def test_no_list_is_none_and_false_is_no_type():
    assert CheckpointerEntry.model_validate({"serde": None}).serde.allowed_msgpack_modules is None
    entry = CheckpointerEntry.model_validate({"serde": {"allowed_msgpack_modules": False}})
    assert entry.serde.allowed_msgpack_modules == ()


async def test_a_run_that_is_resumed_finds_a_listed_type(database_url, tmp_path):
    manifest = _listing(tmp_path, "Thing")
    async with app_client(settings_for(database_url, manifest)) as client:
        thread = await _waiting_thread(client)
        answer = await _resumed(client, thread)
        assert answer["answer"] == "yes Thing"
        exposed = (await client.get("/metrics")).text
    assert Exposition(exposed).value("headrace_checkpoint_types_blocked_total") == 0


async def test_a_run_that_reads_another_type_fails_and_names_it(database_url, tmp_path, capfd):
    """With LangGraph's strict mode it goes on with the fields. The thread waits on, so that it can
    be resumed when the type is listed."""
    async with app_client(settings_for(database_url, _listing(tmp_path, "Other"))) as client:
        thread = await _waiting_thread(client)
        answer = await _resumed(client, thread)
        assert answer["__error__"]["error"] == "TypeNotAllowed"
        assert '["forms", "Thing"]' in answer["__error__"]["message"]
        shown = (await client.get(f"/threads/{thread}/state")).json()
        assert shown["values"]["thing"] == {"number": 3}
        assert (await client.get(f"/threads/{thread}/history")).json()
        found = (await client.get(f"/threads/{thread}")).json()
        assert (found["status"], found["values"]["thing"]) == ("interrupted", {"number": 3})
        change = {"values": {"answer": "x"}}
        changed = await client.post(f"/threads/{thread}/state", json=change)
        assert (changed.status_code, changed.json()["code"]) == (409, "type_not_allowed")
        exposed = (await client.get("/metrics")).text
    assert Exposition(exposed).value("headrace_checkpoint_types_blocked_total") > 0
    log = capfd.readouterr().err
    assert "type_not_listed" in log
    assert "type_blocked" in log
    assert "forms:Thing" in log
    async with app_client(settings_for(database_url, _listing(tmp_path, "Thing"))) as client:
        assert (await _resumed(client, thread))["answer"] == "yes Thing"


async def test_a_setting_lists_types_too(database_url, tmp_path):
    more = {"checkpointer": {"allowed_msgpack_modules": "else.where:Kind, forms:Thing"}}
    settings = settings_for(database_url, write_manifest(tmp_path), **more)
    async with app_client(settings) as client:
        thread = await _waiting_thread(client)
        assert (await _resumed(client, thread))["answer"] == "yes Thing"
    with pytest.raises(ValueError, match=r"package\.module:Type"):
        settings_for(database_url, tmp_path, checkpointer={"allowed_msgpack_modules": "Thing"})


def _listing(folder, name):
    serde = {"allowed_msgpack_modules": [["forms", name]]}
    return write_manifest(folder, checkpointer={"serde": serde})


async def _waiting_thread(client):
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "typed", "input": {"answer": "none"}}
    waiting = await client.post(f"/threads/{thread}/runs/wait", json=body)
    assert waiting.json()["__interrupt__"]
    return thread


async def _resumed(client, thread):
    body = {"assistant_id": "typed", "command": {"resume": "yes"}}
    return (await client.post(f"/threads/{thread}/runs/wait", json=body)).json()
