"""The events of a run as a client gets them: numbers, ids, the beginning and the end."""

from typing import Any
from uuid import UUID

import orjson

from headrace.events.event import RUN_DELETED, Event, end_event, gap_event, last_values_event
from headrace.following.thread_runs import FoundRun
from headrace.protocol.run_events import RunEvents

RUN = UUID("019aa000-0000-7000-8000-000000000001")
PARAMS = {"namespace": [], "timestamp": 1, "data": {"a": 1}}


def made(after: int = 0, *, whole: bool = True, number_before: int = 1000) -> RunEvents:
    return RunEvents(FoundRun(RUN, "agent", after, whole, number_before))


def stored(event_id: int, name: str, data: Any = PARAMS) -> Event:
    return Event.of(event_id, name, data, resumable=True)


def told(events: RunEvents, *given: Event) -> list[tuple[str, int | None, Any]]:
    found = []
    for event in given:
        for one in events.of(event):
            message = orjson.loads(one.message)
            assert message["type"] == "event"
            assert message["params"]["namespace"] == list(one.namespace)
            assert one.frame.startswith(f"event: {message['method']}\r\ndata: {{".encode())
            found.append((message["method"], message.get("seq"), message["params"]["data"]))
    return found


def begun(attempt: int = 1, event_id: int = 1) -> Event:
    return stored(event_id, "metadata", {"run_id": str(RUN), "attempt": attempt})


def lifecycle(event: str, **more: str) -> dict[str, str]:
    return {"event": event, "graph_name": "agent", **more}


DONE = end_event(RUN, "success", None)


def test_a_run_begins_goes_on_and_ends():
    assert told(made(), begun(), stored(2, "v3/values"), stored(3, "v3/custom:x"), DONE) == [
        ("lifecycle", 1001, lifecycle("running")),
        ("values", 1002, {"a": 1}),
        ("custom", 1003, {"a": 1}),
        ("lifecycle", 1004, lifecycle("completed")),
    ]


def test_namespaces_and_channels_are_those_of_the_stored_name():
    deep = {**PARAMS, "namespace": ["child:1", "deep:2"]}
    (one,) = made().of(stored(2, "v3/custom:x|child:1|deep:2", deep))
    assert (one.method, one.channel, one.namespace) == ("custom", "custom:x", ("child:1", "deep:2"))


def test_ids_are_those_of_any_process():
    ids = [
        one.event_id
        for event in (begun(), stored(2, "v3/values"), DONE)
        for one in made().of(event)
    ]
    assert ids == [f"synth:{RUN}:lifecycle:1", f"{RUN}:2", f"synth:{RUN}:lifecycle:end"]


def test_the_end_has_its_number_whatever_the_client_has_seen():
    for after in (0, 1, 3):
        given = [stored(number, "v3/values") for number in (1, 2, 3) if number > after]
        assert told(made(after), *given, DONE)[-1] == ("lifecycle", 1004, lifecycle("completed"))


def test_questions_wait_for_the_end_of_the_run():
    events = made()
    asked = stored(2, "v3/input.requested")
    waits = stored(3, "v3/lifecycle", {**PARAMS, "data": lifecycle("interrupted")})
    assert told(events, begun(), asked, waits) == [("lifecycle", 1001, lifecycle("running"))]
    assert told(events, DONE) == [
        ("input.requested", 1002, {"a": 1}),
        ("lifecycle", 1004, lifecycle("interrupted")),
    ]


def test_questions_of_a_lost_attempt_are_forgotten():
    events = made()
    waits = stored(3, "v3/lifecycle", {**PARAMS, "data": lifecycle("interrupted")})
    told(events, begun(), stored(2, "v3/input.requested"), waits)
    assert told(events, begun(2, event_id=4), DONE) == [("lifecycle", 1005, lifecycle("completed"))]


def test_a_later_attempt_begins_a_run_of_which_nothing_was_kept():
    assert told(made(), begun(2)) == [("lifecycle", 1001, lifecycle("running"))]


def test_a_failed_run_says_why():
    failed = end_event(RUN, "error", {"error": "ValueError", "message": "kaboom"})
    assert told(made(), begun(), failed)[-1][2] == lifecycle("failed", error="ValueError: kaboom")
    late = end_event(RUN, "timeout", {"error": "TimeoutError", "message": "late"})
    assert told(made(), late)[-1][2] == lifecycle("failed", error="TimeoutError: late")
    gone = stored(2, "error", RUN_DELETED)
    assert told(made(), begun(), gone)[-1][2]["event"] == "failed"


def test_the_end_of_a_run_that_began_nothing_has_its_time_in_each_replay():
    failed = end_event(RUN, "error", {"error": "ValueError", "message": "kaboom"})
    for given in ([failed], [begun(), failed]):
        events = RunEvents(FoundRun(RUN, "agent", started_ms=123_456))
        *_, (end,) = [list(events.of(one)) for one in given]
        assert orjson.loads(end.params)["timestamp"] == 123_456


def test_a_cancelled_run_is_interrupted():
    cancelled = end_event(RUN, "interrupted", {"error": "UserInterrupt", "message": "stop"})
    assert told(made(), begun(), cancelled)[-1][2] == lifecycle("interrupted")


def test_a_run_whose_row_is_gone_ends_too():
    events = made()
    told(events, begun())
    (rest,) = events.rest()
    assert orjson.loads(rest.params)["data"] == lifecycle("interrupted")
    assert list(events.rest()) == []
    told(events := made(), begun(), DONE)
    assert list(events.rest()) == []


def test_an_old_run_without_events_is_not_told():
    assert told(made(whole=False), DONE) == []
    assert list(made(whole=False).rest()) == []
    assert told(made(whole=False), begun(), DONE)[-1][2] == lifecycle("completed")


def test_a_run_of_another_route_tells_what_it_streams():
    values, custom = stored(2, "values", {"a": 1}), stored(3, "custom|child:1", {"step": 1})
    others = [stored(4, "updates", {"node": {}}), stored(5, "messages", [{}, {}])]
    assert told(made(), values, custom, *others) == [
        ("values", 1002, {"a": 1}),
        ("custom", 1003, {"payload": {"step": 1}}),
    ]


def test_a_run_of_another_route_says_that_it_waits():
    for asking in (
        stored(2, "updates", {"__interrupt__": [{"value": 1}]}),
        stored(2, "values", {"a": 1, "__interrupt__": [{"value": 1}]}),
    ):
        assert told(made(), asking, DONE)[-1][2] == lifecycle("interrupted")


def test_events_without_a_place_have_no_number():
    gap, values = gap_event(RUN), last_values_event({"a": 1})
    assert told(made(), gap, values) == [("values", None, {"a": 1})]
    (late,) = made().of(stored(2**32 + 1, "values", {}))
    assert late.number is None
