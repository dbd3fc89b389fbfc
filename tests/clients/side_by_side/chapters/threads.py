"""Threads and their states, with odd arguments."""

import json
from typing import Any
from uuid import uuid4

from tests.clients.side_by_side.chapters.odd import HI, NO_UUIDS, NOBODY, each
from tests.clients.side_by_side.play import Step


def threads_are_made() -> list[Step]:
    known = str(uuid4())
    update = {"values": HI, "as_node": "__start__"}
    return [
        Step("plain", "threads.create"),
        Step("with an id", "threads.create", {"thread_id": known}),
        Step("again", "threads.create", {"thread_id": known}),
        Step("again, raise", "threads.create", {"thread_id": known, "if_exists": "raise"}),
        Step(
            "again, do_nothing", "threads.create", {"thread_id": known, "if_exists": "do_nothing"}
        ),
        *each("odd", "threads.create", "thread_id", [*NO_UUIDS, "", 5]),
        *each("odd", "threads.create", "if_exists", ["x", 5, ""], thread_id=str(uuid4())),
        *each(
            "odd",
            "threads.create",
            "metadata",
            [{}, {"a": None}, {"a": {"b": [1, 2.5, "x"]}}, [], [["a", 1]], "x", 5, {"": 1}],
        ),
        *each("odd", "threads.create", "ttl", [60, 1.5, 0, -1, "x", {}, {"ttl": 5}, {"ttl": -5}]),
        *each(
            "odd", "threads.create", "ttl", [{"ttl": 5, "strategy": "x"}, {"strategy": "delete"}]
        ),
        *each("odd", "threads.create", "graph_id", ["agent", "nobody", ""]),
        Step(
            "supersteps",
            "threads.create",
            {"graph_id": "agent", "supersteps": [{"updates": [update]}]},
        ),
        *each(
            "odd",
            "threads.create",
            "supersteps",
            [
                [],
                [{}],
                [{"updates": []}],
                [{"updates": [{"values": HI, "as_node": "nobody"}]}],
                "x",
            ],
            graph_id="agent",
        ),
        Step("no graph", "threads.create", {"supersteps": [{"updates": [update]}]}),
    ]


def threads_are_named_oddly() -> list[Step]:
    mine = "11111111-aaaa-4bbb-8ccc-{:012d}"
    made = mine.format(uuid4().int % 10**12)
    forms = (made.upper(), f"{{{made}}}", made.replace("-", ""), f"urn:uuid:{made}")
    steps = [
        Step("made", "threads.create", {"thread_id": made}),
        Step("a turn", "runs.wait", {"thread_id": made, "assistant_id": "agent", "input": HI}),
    ]
    for form in (*forms, *NO_UUIDS, NOBODY):
        shown = form.replace(made, "the-id")[:50]
        steps += [
            Step(f"get {shown}", "threads.get", {"thread_id": form}),
            Step(f"state {shown}", "threads.get_state", {"thread_id": form}),
            Step(f"history {shown}", "threads.get_history", {"thread_id": form}),
            Step(f"runs {shown}", "runs.list", {"thread_id": form}),
            Step(f"update {shown}", "threads.update", {"thread_id": form, "metadata": {"a": 1}}),
            Step(
                f"wait {shown}",
                "runs.wait",
                {"thread_id": form, "assistant_id": "agent", "input": HI},
            ),
        ]
    steps += each("unknown", "threads.copy", "thread_id", ["not-a-uuid", NOBODY])
    steps += each("unknown", "threads.delete", "thread_id", ["not-a-uuid", NOBODY])
    return steps


def threads_are_searched() -> list[Step]:
    mark = uuid4().hex
    both: dict[str, Any] = {"metadata": {"mark": mark}, "sort_by": "created_at"}
    return [
        Step("one", "threads.create", {"metadata": {"mark": mark, "n": 1, "deep": {"a": [1]}}}),
        Step("two", "threads.create", {"metadata": {"mark": mark, "n": 2}}, {"two": "thread_id"}),
        Step(
            "a turn",
            "runs.wait",
            {"thread_id": "$two", "assistant_id": "hitl", "input": {"topic": "tea"}},
        ),
        *each(
            "by",
            "threads.search",
            "metadata",
            [{"mark": mark, "n": 1}, {"mark": mark, "n": "1"}, {"mark": mark, "deep": {"a": [1]}}],
        ),
        *each("by", "threads.search", "metadata", ["x", {"mark": mark, "n": None}]),
        *[
            Step(f"no object, {call}", f"POST /threads/{call}", {"json": {"metadata": []}})
            for call in ("search", "count")
        ],
        *each("by", "threads.search", "values", [{"topic": "tea"}, {"topic": 1}, {}, "x"], **both),
        *each("odd", "threads.search", "limit", [0, -1, 1, 1000, 1001, 1.5, "x"], **both),
        *each("odd", "threads.search", "offset", [-1, 1, 10, "x"], **both),
        *each(
            "odd",
            "threads.search",
            "sort_by",
            ["status", "created_at", "updated_at", "state_updated_at", "x"],
            metadata={"mark": mark},
            sort_order="asc",
        ),
        Step(
            "by id",
            "threads.search",
            {"metadata": {"mark": mark, "n": 1}, "sort_by": "thread_id", "sort_order": "desc"},
        ),
        Step("no order", "POST /threads/search", {"json": {"sort_by": "", "metadata": {}}}),
        *each("odd", "threads.search", "sort_order", ["desc", "ASC", "x"], **both),
        *each("odd", "threads.search", "status", ["idle", "busy", "interrupted", "x", ""], **both),
        *each(
            "odd",
            "threads.search",
            "select",
            [
                ["thread_id"],
                ["values", "status"],
                ["interrupts"],
                ["x"],
                [],
                ["thread_id", "thread_id"],
            ],
            **both,
        ),
        *each("odd", "threads.search", "ids", [["$two"], [], ["not-a-uuid"], [NOBODY]], **both),
        *each(
            "odd",
            "threads.search",
            "extract",
            [{"m": "metadata.n"}, {"m": "values.topic"}, {"m": "values.log[0]"}],
            **both,
            select=["thread_id"],
        ),
        *each(
            "odd",
            "threads.search",
            "extract",
            [{"m": "x.y"}, {"m": ""}, {}, {"m": "values.a[x]"}],
            **both,
            select=["thread_id"],
        ),
        *each("odd", "threads.count", "metadata", [{"mark": mark}, {"mark": "x"}, "x"]),
        *each(
            "odd", "threads.count", "status", ["idle", "interrupted", "x"], metadata={"mark": mark}
        ),
        *each("odd", "threads.count", "values", [{"topic": "tea"}], metadata={"mark": mark}),
    ]


def threads_are_kept() -> list[Step]:
    mine = str(uuid4())
    here: dict[str, Any] = {"thread_id": mine}
    return [
        Step("made", "threads.create", {**here, "metadata": {"n": 1}}),
        Step("a turn", "runs.wait", {**here, "assistant_id": "agent", "input": HI}),
        *each(
            "odd",
            "threads.update",
            "metadata",
            [{}, {"n": None}, [], "x", {"deep": {"b": 1}}, {"deep": {"c": 1}}],
            **here,
        ),
        *each("odd", "threads.update", "ttl", [60, {"ttl": 5}, "x"], **here, metadata={}),
        *each("odd", "threads.update", "ttl", [0, -1, {"ttl": -1}], **here, metadata={}),
        Step("quietly", "threads.update", {**here, "metadata": {"q": 1}, "return_minimal": True}),
        Step("after it", "threads.get", here),
        *each("odd", "threads.get", "include", [["ttl"], ["x"], []], **here),
        Step("copy", "threads.copy", here, {"copy": "thread_id"}),
        Step("the copy", "threads.get", {"thread_id": "$copy"}),
        Step("its state", "threads.get_state", {"thread_id": "$copy"}),
        Step("its history", "threads.get_history", {"thread_id": "$copy"}),
        Step("its runs", "runs.list", {"thread_id": "$copy"}),
        Step(
            "it goes on",
            "runs.wait",
            {"thread_id": "$copy", "assistant_id": "agent", "input": HI},
        ),
        Step("the original stays", "threads.get_state", here),
        *each("odd", "threads.prune", "thread_ids", [[], ["not-a-uuid"], [NOBODY], "x"]),
        *each("odd", "threads.prune", "strategy", ["x", "keep_latest"], thread_ids=[NOBODY]),
        Step("pruned", "threads.prune", {"thread_ids": ["$copy", "$copy", NOBODY]}),
        Step("gone", "threads.get", {"thread_id": "$copy"}),
        Step("deleted", "threads.delete", here),
        Step("deleted again", "threads.delete", here),
        Step("its run is gone", "runs.list", here),
        Step("made again", "threads.create", here),
        Step("empty again", "threads.get_state", here),
    ]


def threads_are_followed() -> list[Step]:
    """Each stream is read as far as a run takes it that is made before and lasts a little."""
    steps = []
    modes: tuple[Any, ...] = ("run_modes", "lifecycle", ["run_modes", "lifecycle"], "x", [])
    for number, mode in enumerate(modes):
        kept = f"followed{number}"
        steps += [
            Step("a thread", "threads.create", {}, {kept: "thread_id"}),
            Step(
                "a run",
                "runs.create",
                {
                    "thread_id": f"${kept}",
                    "assistant_id": "slow",
                    "input": {"secs": 0.5, "n": []},
                    "after_seconds": 1,
                },
            ),
            Step(
                f"follow {mode!r}",
                "threads.join_stream",
                {"thread_id": f"${kept}", "stream_mode": mode, "events": 1},
            ),
        ]
    return [
        *steps,
        *each(
            "from",
            "threads.join_stream",
            "last_event_id",
            ["abc", "x" * 300, "1795404759126-x"],
            thread_id="$followed0",
            events=1,
        ),
        Step("no uuid", "threads.join_stream", {"thread_id": "not-a-uuid", "events": 1}),
    ]


def _after_a_turn(name: str) -> list[Step]:
    """A thread of its own: what another step has changed is nothing to the next."""
    here = {"thread_id": f"${name}"}
    return [
        Step("a thread", "threads.create", {}, {name: "thread_id"}),
        Step("a turn", "runs.wait", {**here, "assistant_id": "agent", "input": HI}),
        Step("its head", "threads.get_state", here, {f"head{name}": "checkpoint.checkpoint_id"}),
    ]


def _changes() -> list[tuple[str, dict[str, Any]]]:
    values: list[Any] = [
        None,
        {},
        [],
        "x",
        5,
        {"nobody": 1},
        {"messages": "text"},
        {"messages": [5]},
    ]
    values += [[HI, HI], [["messages", []]]]
    nodes = ["reply", "nobody", "", "__start__", "__end__"]
    ids = ["$head", "not-an-id", NOBODY, ""]
    checkpoints = [
        {"checkpoint_id": "$head"},
        {"checkpoint_id": NOBODY},
        {},
        {"checkpoint_ns": "nobody"},
        {"thread_id": NOBODY, "checkpoint_id": "$head"},
    ]
    return [
        *[(f"values={value!r}", {"values": value}) for value in values],
        *[(f"as_node={node!r}", {"values": HI, "as_node": node}) for node in nodes],
        *[(f"at {at!r}", {"values": HI, "checkpoint_id": at}) for at in ids],
        *[(f"at {at!r}", {"values": HI, "checkpoint": at}) for at in checkpoints],
    ]


def states_are_changed() -> list[Step]:
    steps = []
    for number, (title, change) in enumerate(_changes()):
        name = f"t{number}"
        here = {"thread_id": f"${name}"}
        given = json.loads(json.dumps(change).replace("$head", f"$head{name}"))
        steps += [
            *_after_a_turn(name),
            Step(f"change {title}"[:100], "threads.update_state", {**here, **given}),
            Step(f"after {title}"[:100], "threads.get_state", here, after=f"change {title}"[:100]),
            Step(
                f"history after {title}"[:100],
                "threads.get_history",
                here,
                after=f"change {title}"[:100],
            ),
        ]
    return steps


def states_are_read() -> list[Step]:
    here = {"thread_id": "$read"}
    empty: dict[str, Any] = {"thread_id": str(uuid4())}
    head = {"checkpoint_id": "$headread"}
    return [
        Step("made", "threads.create", empty),
        Step("empty", "threads.get_state", empty),
        Step("history of nothing", "threads.get_history", empty),
        Step("change without a graph", "threads.update_state", {**empty, "values": HI}),
        *_after_a_turn("read"),
        *each("of", "threads.get_state", "checkpoint_id", ["$headread", "zz", NOBODY], **here),
        *each(
            "of",
            "threads.get_state",
            "checkpoint",
            [head, {"checkpoint_id": "zz"}, {"checkpoint_ns": ""}, {"x": 1}],
            **here,
        ),
        *each("odd", "threads.get_history", "limit", [0, -1, 1, 2, 1001, "x"], **here),
        *each(
            "odd",
            "threads.get_history",
            "before",
            [head, {"configurable": head}, "$headread"],
            **here,
        ),
        *each(
            "odd",
            "threads.get_history",
            "metadata",
            [{"source": "loop"}, {"source": "x"}, {"step": 1}, {"step": "1"}, {}],
            **here,
        ),
        *each(
            "odd",
            "threads.get_history",
            "checkpoint",
            [{"checkpoint_ns": ""}, {"checkpoint_ns": "x"}, head],
            **here,
        ),
        *each("odd", "GET /threads/$read/history", "params", [{"limit": 2}, {"limit": 0}]),
        Step("patched", "PATCH /threads/$read/state", {"json": {"metadata": {"a": 1}}}),
    ]
