"""What is stored of a run of the protocol, chunk by chunk."""

from typing import Any

import orjson
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.types import Interrupt

from headrace.events.json_encoding import encode_json
from headrace.events.protocol_events import ProtocolTranslator

CHILD = ("child:t1",)


@pytest.fixture
def translator():
    return ProtocolTranslator("agent")


def told(named: Any) -> list[tuple[str, Any]]:
    """Names and data, without the rest of the params."""
    found = []
    for name, params in named:
        decoded = orjson.loads(encode_json(params))
        assert decoded["timestamp"] > 1_700_000_000_000
        assert decoded["namespace"] == name.split("|")[1:]
        found.append((name, decoded["data"]))
    return found


def checkpoint(checkpoint_id: str, step: int) -> dict[str, Any]:
    return {
        "config": {"configurable": {"checkpoint_id": checkpoint_id}},
        "parent_config": None,
        "metadata": {"step": step, "source": "loop"},
        "values": {"a": 1},
    }


def test_a_checkpoint_comes_before_the_values_it_holds(translator):
    values = {"a": [1]}
    assert told(translator.events((), "values", values)) == []
    values["a"].append(2)
    assert told(translator.events((), "checkpoints", checkpoint("c1", 0))) == [
        ("v3/checkpoints", {"id": "c1", "step": 0, "source": "loop"}),
        ("v3/values", {"a": [1]}),
    ]
    translator.events((), "values", {"a": 3, "__interrupt__": ()})
    assert told(translator.at("ends")) == [("v3/values", {"a": 3})]
    assert told(translator.at("ends")) == []


def test_updates_name_their_node_and_leave_interrupts_out(translator):
    chunk = {"one": {"a": 1}, "__interrupt__": (Interrupt("why?", id="i1"),)}
    assert told(translator.events(CHILD, "updates", chunk)) == [
        ("v3/updates|child:t1", {"node": "one", "values": {"a": 1}})
    ]
    waiting = translator.at("waits", {"t1": [{"id": "i1", "value": "why?"}]})
    assert told(waiting) == [
        (
            "v3/input.requested|child:t1",
            {"interrupt_id": "i1", "payload": "why?", "value": "why?"},
        ),
        ("v3/lifecycle", {"event": "interrupted", "graph_name": "agent"}),
    ]


def test_values_with_a_name_have_a_channel_of_their_own(translator):
    named = {"name": "progress", "payload": 1}
    assert told(translator.events((), "custom", named)) == [("v3/custom:progress", named)]
    for other in ({"step": 1}, 7, {"name": "a|b"}):
        assert told(translator.events((), "custom", other)) == [("v3/custom", {"payload": other})]
    barred = {"name": "a|b", "payload": 1}
    assert told(translator.events((), "custom", barred)) == [("v3/custom", barred)]


def message(translator: ProtocolTranslator, chunk: Any, run_id: str = "m1") -> list[Any]:
    metadata = {"langgraph_node": "model", "run_id": run_id}
    return [data for _, data in told(translator.events((), "messages", (chunk, metadata)))]


def test_a_whole_message_is_told_as_if_it_was_streamed(translator):
    events = message(translator, AIMessage("Hi", id="a1"))
    assert [one["event"] for one in events] == [
        "message-start",
        "content-block-start",
        "content-block-delta",
        "content-block-finish",
        "message-finish",
    ]
    assert (events[0]["role"], events[0]["id"]) == ("ai", "a1")
    assert events[2]["delta"] == {"type": "text-delta", "text": "Hi"}
    assert message(translator, HumanMessage("Hi", id="h1"))[0]["role"] == "human"
    assert message(translator, ToolMessage("5", tool_call_id="c1")) == []


def test_messages_at_the_same_time_can_be_told_apart(translator):
    delta = {"event": "content-block-delta", "index": 0, "delta": {"type": "text-delta"}}
    start = {"event": "message-start", "role": "ai"}
    assert message(translator, {**start, "id": "a1"})[0]["run_id"] == "m1"
    # One alone needs no more.
    assert message(translator, delta) == [delta]
    message(translator, {**start, "id": "a2"}, "m2")
    assert message(translator, delta) == [{**delta, "run_id": "m1", "message_id": "a1"}]
    (end,) = message(translator, {"event": "message-finish"}, "m2")
    assert end["message_id"] == "a2"
    assert message(translator, delta) == [delta]


def test_results_of_tools_are_no_messages(translator):
    assert message(translator, {"event": "message-start", "role": "tool", "id": "t"}) == []
    assert message(translator, {"event": "message-finish"}) == []


def lifecycles(named: Any) -> list[tuple[str, str, Any]]:
    return [
        (name, data["event"], data.get("error"))
        for name, data in told(named)
        if name.startswith("v3/lifecycle")
    ]


def task(task_id: str, **more: Any) -> dict[str, Any]:
    return {"id": task_id, "name": "n", **more}


def test_a_subgraph_begins_with_its_first_task_and_ends_with_its_caller(translator):
    translator.events((), "tasks", task("t1", input={}))
    begun = translator.events(CHILD, "tasks", task("t2", input={}))
    assert told(begun)[1] == (
        "v3/lifecycle|child:t1",
        {
            "event": "started",
            "namespace": ["child:t1"],
            "graph_name": "child",
            "trigger_call_id": "t1",
        },
    )
    assert lifecycles(translator.events(CHILD, "tasks", task("t3", input={}))) == []
    assert lifecycles(translator.events(CHILD, "tasks", task("t3", result={}))) == []
    assert lifecycles(translator.events((), "tasks", task("t1", result={}))) == [
        ("v3/lifecycle|child:t1", "completed", None)
    ]
    assert lifecycles(translator.at("ends")) == []


def test_an_agent_that_a_tool_call_has_started_says_so(translator):
    call = {"tool_call": {"id": "call_1", "name": "ask"}}
    translator.events((), "tasks", task("t1", input=call))
    agent = task("t2", input={}, metadata={"lc_agent_name": "researcher"})
    _, (_, data) = told(translator.events(CHILD, "tasks", agent))
    assert data["graph_name"] == "researcher"
    assert data["cause"] == {"type": "toolCall", "tool_call_id": "call_1"}


@pytest.mark.parametrize(
    ("result", "status", "error"),
    [
        ({"error": "ValueError('no')"}, "failed", "ValueError('no')"),
        ({"interrupts": [{"id": "i"}], "error": None}, "interrupted", None),
    ],
)
def test_a_subgraph_ends_as_its_caller_does(translator, result, status, error):
    translator.events(CHILD, "tasks", task("t2", input={}))
    ended = translator.events((), "tasks", task("t1", result={}, **result))
    assert lifecycles(ended) == [("v3/lifecycle|child:t1", status, error)]


def test_open_subgraphs_fail_with_the_graph_from_within(translator):
    inner = (*CHILD, "deep:t2")
    translator.events(CHILD, "tasks", task("t2", input={}))
    translator.events(inner, "tasks", task("t3", input={}))
    assert lifecycles(translator.at("fails", "kaboom")) == [
        ("v3/lifecycle|child:t1|deep:t2", "failed", "kaboom"),
        ("v3/lifecycle|child:t1", "failed", "kaboom"),
    ]


def test_answers_are_told_first():
    translator = ProtocolTranslator("agent", ["i1", "i2"])
    assert told(translator.at("begins")) == [("v3/input.answered", {"interrupt_ids": ["i1", "i2"]})]
    assert told(ProtocolTranslator("agent").at("begins")) == []
