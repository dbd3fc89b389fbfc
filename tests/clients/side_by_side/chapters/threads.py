"""Threads and their states, with odd arguments."""

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
        *each("odd", "threads.create", "thread_id", [*NO_UUIDS, "", 5, NOBODY]),
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
        Step(
            "supersteps without a graph", "threads.create", {"supersteps": [{"updates": [update]}]}
        ),
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
    return [
        Step("one", "threads.create", {"metadata": {"mark": mark, "n": 1, "deep": {"a": [1]}}}),
        Step("two", "threads.create", {"metadata": {"mark": mark, "n": 2}}, {"two": "thread_id"}),
        Step("a turn", "runs.wait", {"thread_id": "$two", "assistant_id": "agent", "input": HI}),
        *each(
            "by",
            "threads.search",
            "metadata",
            [{"mark": mark, "n": 1}, {"mark": mark, "n": "1"}, {"mark": mark, "deep": {"a": [1]}}],
        ),
        *each("by", "threads.search", "metadata", [[], "x", {"mark": mark, "n": None}]),
        *each(
            "odd",
            "threads.search",
            "limit",
            [0, -1, 1, 1000, 1001, 1.5, "x"],
            metadata={"mark": mark},
        ),
        *each("odd", "threads.search", "offset", [-1, 1, 10, "x"], metadata={"mark": mark}),
        *each(
            "odd",
            "threads.search",
            "sort_by",
            ["thread_id", "status", "created_at", "updated_at", "state_updated_at", "x", ""],
            metadata={"mark": mark},
            sort_order="asc",
        ),
        *each(
            "odd",
            "threads.search",
            "sort_order",
            ["desc", "ASC", "x"],
            metadata={"mark": mark},
            sort_by="created_at",
        ),
        *each(
            "odd", "threads.search", "status", ["idle", "busy", "x", ""], metadata={"mark": mark}
        ),
        *each(
            "odd",
            "threads.search",
            "select",
            [["thread_id"], ["values", "status"], ["x"], [], ["thread_id", "thread_id"]],
            metadata={"mark": mark},
            sort_by="created_at",
        ),
        *each(
            "odd",
            "threads.search",
            "ids",
            [["$two"], [], ["not-a-uuid"], [NOBODY]],
            metadata={"mark": mark},
        ),
        *each(
            "odd",
            "threads.search",
            "extract",
            [{"m": "metadata.n"}, {"m": "values.messages[0].content"}, {"m": "x.y"}, {"m": ""}, {}],
            metadata={"mark": mark},
            select=["thread_id"],
            sort_by="created_at",
        ),
        *each("odd", "threads.count", "metadata", [{"mark": mark}, {"mark": "x"}, [], "x"]),
        *each("odd", "threads.count", "status", ["idle", "x"], metadata={"mark": mark}),
        *each("odd", "threads.prune", "thread_ids", [[], ["not-a-uuid"], [NOBODY]]),
        Step("odd", "threads.prune", {"thread_ids": [NOBODY], "strategy": "x"}),
        *each(
            "odd",
            "threads.update",
            "metadata",
            [{}, {"n": None}, [], "x", {"deep": {"b": 1}}],
            thread_id="$two",
        ),
        Step("after it", "threads.get", {"thread_id": "$two"}),
        Step("copy", "threads.copy", {"thread_id": "$two"}),
    ]


def states_are_changed() -> list[Step]:
    thread = str(uuid4())
    here: dict[str, Any] = {"thread_id": thread}
    return [
        Step("made", "threads.create", here),
        Step("empty", "threads.get_state", here),
        Step("history of nothing", "threads.get_history", here),
        Step("change without a graph", "threads.update_state", {**here, "values": HI}),
        Step("a turn", "runs.wait", {**here, "assistant_id": "agent", "input": HI}),
        Step("its head", "threads.get_state", here, {"head": "checkpoint.checkpoint_id"}),
        *each(
            "change",
            "threads.update_state",
            "values",
            [
                None,
                {},
                [],
                "x",
                5,
                {"nobody": 1},
                {"messages": "text"},
                {"messages": [5]},
                [HI, HI],
            ],
            **here,
        ),
        *each(
            "as",
            "threads.update_state",
            "as_node",
            ["reply", "nobody", "", "__start__", "__end__"],
            **here,
            values=HI,
        ),
        *each(
            "at",
            "threads.update_state",
            "checkpoint_id",
            ["$head", "not-an-id", NOBODY, ""],
            **here,
            values=HI,
        ),
        *each(
            "at",
            "threads.update_state",
            "checkpoint",
            [
                {"checkpoint_id": "$head"},
                {"checkpoint_id": NOBODY},
                {},
                {"checkpoint_ns": "nobody"},
                {"thread_id": NOBODY, "checkpoint_id": "$head"},
            ],
            **here,
            values=HI,
        ),
        *each("of", "threads.get_state", "checkpoint_id", ["$head", "zz", NOBODY], **here),
        *each(
            "of",
            "threads.get_state",
            "checkpoint",
            [{"checkpoint_id": "$head"}, {"checkpoint_id": "zz"}, {"checkpoint_ns": ""}, {"x": 1}],
            **here,
        ),
        *each("odd", "threads.get_history", "limit", [0, -1, 1, 1001, "x"], **here),
        *each(
            "odd",
            "threads.get_history",
            "before",
            [{"checkpoint_id": "$head"}, {"configurable": {"checkpoint_id": "$head"}}],
            **here,
        ),
        *each(
            "odd",
            "threads.get_history",
            "metadata",
            [{"source": "loop"}, {"source": "x"}, {"step": 1}],
            **here,
        ),
        *each(
            "odd",
            "threads.get_history",
            "checkpoint",
            [{"checkpoint_ns": ""}, {"checkpoint_ns": "x"}],
            **here,
        ),
    ]
