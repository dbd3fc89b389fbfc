"""LangGraph's chunks as the API's events, and their frames."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk

from headrace.events.event import Event
from headrace.events.modes import Translator, graph_modes
from headrace.events.sse import frame


def test_the_graph_is_always_asked_for_result_and_interrupts():
    assert graph_modes(["custom"]) == ["custom", "updates", "values"]
    assert graph_modes(["messages-tuple", "messages"]) == ["messages", "updates", "values"]


def test_only_what_was_asked_for_is_sent():
    translator = Translator(frozenset({"updates"}))
    assert list(translator.events((), "values", {"a": 1})) == []
    assert list(translator.events((), "updates", {"n": 1})) == [("updates", {"n": 1})]


def test_namespaces_stand_behind_the_name():
    translator = Translator(frozenset({"values"}))
    names = [name for name, _ in translator.events(("child:1", "leaf:2"), "values", {})]
    assert names == ["values|child:1|leaf:2"]


def test_messages_accumulate_and_announce_their_metadata_once():
    translator = Translator(frozenset({"messages"}))
    events: list[tuple[str, Any]] = []
    for text in ("Hi", " there"):
        chunk = AIMessageChunk(content=text, id="m1")
        events += translator.events((), "messages", (chunk, {"langgraph_node": "model"}))
    assert [name for name, _ in events] == [
        "messages/metadata",
        "messages/partial",
        "messages/partial",
    ]
    assert events[0][1] == {"m1": {"metadata": {"langgraph_node": "model"}}}
    assert [data[0].content for _, data in events[1:]] == ["Hi", "Hi there"]
    assert events[-1][1][0].type == "ai"


def test_a_whole_message_is_complete_at_once():
    translator = Translator(frozenset({"messages", "messages-tuple"}))
    events = list(translator.events((), "messages", (AIMessage("all", id="m"), {})))
    assert [name for name, _ in events] == ["messages", "messages/metadata", "messages/complete"]


def test_a_debug_item_of_a_checkpoint_names_it_and_its_parent():
    place = {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c2"}
    payload: dict[str, Any] = {
        "config": {"configurable": {**place, "own": 1}},
        "parent_config": None,
        "next": [],
    }
    item = {"type": "checkpoint", "step": 0, "payload": payload}
    ((name, told),) = Translator(frozenset({"debug"})).events((), "debug", item)
    assert name == "debug"
    assert told == {
        **item,
        "payload": {**payload, "checkpoint": place, "parent_checkpoint": None},
    }
    task = {"type": "task", "step": 0, "payload": {"id": "x"}}
    assert list(Translator(frozenset({"debug"})).events((), "debug", task)) == [("debug", task)]


def test_a_frame_has_crlf_line_ends_and_one_data_line():
    assert (
        Event.of(1, "end", {"a": "x\ny"}, resumable=False).frame
        == b'event: end\r\ndata: {"a":"x\\ny"}\r\n\r\n'
    )


def test_an_id_stands_after_the_data():
    assert frame("values", b"{}", 7) == b"event: values\r\ndata: {}\r\nid: 7\r\n\r\n"


@given(st.text(), st.text())
def test_no_name_and_no_value_can_forge_an_event(name, value):
    lines = Event.of(1, name, value, resumable=False).frame.split(b"\r\n")
    assert len(lines) == 4
    assert b"\n" not in lines[0] + lines[1]
