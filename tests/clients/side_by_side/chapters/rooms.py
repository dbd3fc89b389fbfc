"""Assistants, the store, and requests that no SDK sends."""

from typing import Any
from uuid import uuid4

from tests.clients.side_by_side.chapters.odd import NOBODY, each
from tests.clients.side_by_side.play import Step


def assistants_are_kept() -> list[Step]:
    mark = uuid4().hex
    known = str(uuid4())
    return [
        Step(
            "made",
            "assistants.create",
            {"graph_id": "ctx", "assistant_id": known, "metadata": {"mark": mark}, "name": "mine"},
        ),
        Step("again", "assistants.create", {"graph_id": "ctx", "assistant_id": known}),
        Step(
            "again, do_nothing",
            "assistants.create",
            {"graph_id": "ctx", "assistant_id": known, "if_exists": "do_nothing"},
        ),
        *each("odd", "assistants.create", "graph_id", ["nobody", "", 5]),
        *each("odd", "assistants.create", "assistant_id", ["not-a-uuid", "", 5], graph_id="ctx"),
        *each(
            "odd",
            "assistants.create",
            "config",
            [
                {},
                {"configurable": {"model_name": "x"}},
                {"recursion_limit": "x"},
                {"tags": ["a"]},
                [],
                {"configurable": []},
                {"nobody": 1},
                {"recursion_limit": 5},
            ],
            graph_id="ctx",
        ),
        *each(
            "odd",
            "assistants.create",
            "context",
            [{}, {"model_name": "x"}, {"nobody": 1}, []],
            graph_id="ctx",
        ),
        Step(
            "both",
            "assistants.create",
            {"graph_id": "ctx", "config": {"configurable": {"a": 1}}, "context": {"a": 2}},
        ),
        *each("odd", "assistants.create", "metadata", [{}, {"a": None}, [], "x"], graph_id="ctx"),
        *each("odd", "assistants.create", "name", ["", "x" * 300, "ä"], graph_id="ctx"),
        *each("odd", "assistants.create", "description", ["", "x" * 300], graph_id="ctx"),
        *each(
            "odd",
            "assistants.update",
            "metadata",
            [{"more": 1}, {"mark": mark}, {}],
            assistant_id=known,
        ),
        *each("odd", "assistants.update", "graph_id", ["nobody", ""], assistant_id=known),
        *each("odd", "assistants.update", "name", ["other", "ä"], assistant_id=known),
        *each("odd", "assistants.update", "description", ["", "other"], assistant_id=known),
        Step("unknown", "assistants.update", {"assistant_id": NOBODY, "name": "x"}),
        *each("odd", "assistants.get_versions", "limit", [1, 0, -1, 1001, "x"], assistant_id=known),
        *each(
            "odd",
            "assistants.get_versions",
            "metadata",
            [{"mark": mark}, {"x": 1}],
            assistant_id=known,
        ),
        *each("odd", "assistants.set_latest", "version", [1, 99, 0, -1, "x"], assistant_id=known),
        *each("odd", "assistants.search", "limit", [0, 1, -1, 1001, "x"], metadata={"mark": mark}),
        *each(
            "odd",
            "assistants.search",
            "sort_by",
            ["name", "graph_id", "created_at", "updated_at", "assistant_id", "x"],
            metadata={"mark": mark},
        ),
        *each(
            "odd",
            "assistants.search",
            "select",
            [["assistant_id"], ["x"], [], ["name", "version"]],
            metadata={"mark": mark},
        ),
        *each(
            "odd",
            "assistants.search",
            "name",
            ["mine", "MINE", "min", "%", ""],
            metadata={"mark": mark},
        ),
        *each("odd", "assistants.search", "graph_id", ["agent", "nobody"], metadata={"mark": mark}),
        *each("odd", "assistants.count", "graph_id", ["ctx", "nobody"], metadata={"mark": mark}),
        *each("odd", "assistants.count", "name", ["MINE", "x"], metadata={"mark": mark}),
        *each("odd", "assistants.count", "metadata", [{"mark": mark}, {"mark": "x"}]),
        *each(
            "odd", "assistants.get", "assistant_id", ["not-a-uuid", NOBODY, known.upper(), "agent"]
        ),
        *each(
            "odd",
            "assistants.get_graph",
            "xray",
            [True, False, 0, 1, 2, -1, "x"],
            assistant_id="nested",
        ),
        *each("odd", "assistants.get_graph", "assistant_id", ["nested", NOBODY, "x"]),
        *each("odd", "assistants.get_schemas", "assistant_id", [known, NOBODY, "x"]),
        *each(
            "odd", "assistants.get_subgraphs", "namespace", ["child", "x"], assistant_id="nested"
        ),
        *each("odd", "assistants.get_subgraphs", "recurse", [True, False], assistant_id="nested"),
        *each("none", "assistants.get_subgraphs", "recurse", [True, False], assistant_id=known),
        Step("deleted", "assistants.delete", {"assistant_id": known}),
        *each("odd", "assistants.delete", "assistant_id", [known, NOBODY, "not-a-uuid"]),
    ]


def assistants_are_changed() -> list[Step]:
    """Each change on an assistant of its own."""
    told: list[tuple[str, dict[str, Any]]] = [
        ("config", {"config": {"configurable": {"a": 1}, "tags": ["t"]}}),
        ("context", {"context": {"a": 1}}),
        ("nothing", {}),
    ]
    changes: list[dict[str, Any]] = [
        {"config": {"tags": ["z"]}},
        {"config": {}},
        {"context": {}},
        {"context": {"c": 3}},
        {"config": {"configurable": {"b": 2}}},
        {"config": {"configurable": {}}},
        {"config": {"tags": ["z"]}, "context": {"d": 1}},
        {"config": {"configurable": {"b": 2}}, "context": {"d": 1}},
        {"metadata": {"x": 1}},
        {"graph_id": "agent"},
    ]
    steps = []
    for had, given in told:
        for number, change in enumerate(changes):
            kept = f"{had}{number}"
            what = f"{had}, {change!r}"
            here = {"assistant_id": f"${kept}"}
            steps += [
                Step(
                    "an assistant",
                    "assistants.create",
                    {"graph_id": "ctx", "metadata": {"m": 1}, **given},
                    {kept: "assistant_id"},
                ),
                Step(f"update {what}"[:100], "assistants.update", {**here, **change}),
                Step(f"versions {what}"[:100], "assistants.get_versions", here),
                Step(f"back {what}"[:100], "assistants.set_latest", {**here, "version": 1}),
            ]
    return steps


def items_are_stored() -> list[Step]:
    space = ["side", uuid4().hex]
    one = [*space, "o"]
    found: dict[str, Any] = {"positional": [one]}
    put: dict[str, Any] = {"positional": [space], "key": "k"}
    return [
        *each(
            "put",
            "store.put_item",
            "value",
            [{"n": 1}, {}, {"a": {"b": [1, None]}}, [], "x", 5],
            **put,
        ),
        *each(
            "key",
            "store.put_item",
            "key",
            ["", "a.b", "ä", "a/b", "x" * 500],
            positional=[space],
            value={"n": 1},
        ),
        *[
            Step(
                f"namespace {odd!r}"[:90],
                "store.put_item",
                {"positional": [odd], "key": "k", "value": {"n": 1}},
            )
            for odd in ([], [""], ["a.b"], ["a", ""], ["langgraph"], ["ä"], "text", [5])
        ],
        *each("ttl", "store.put_item", "ttl", [1, 0, -1, "x"], **put, value={"n": 1}),
        *each("index", "store.put_item", "index", [False, ["n"], []], **put, value={"n": 1}),
        Step("an item", "store.put_item", {**found, "key": "k", "value": {"n": 1}}),
        *each("get", "store.get_item", "key", ["k", "nobody", ""], positional=[space]),
        *each("refresh", "store.get_item", "refresh_ttl", [True, False], **put),
        *each("get of", "store.get_item", "positional", [[[]], [["nobody"]], [[""]]], key="k"),
        *each(
            "filter",
            "store.search_items",
            "filter",
            [
                {"n": 1},
                {"n": "1"},
                {"n": {"$gt": 0}},
                {"n": {"$eq": 1}},
                {"n": {"$ne": 1}},
                {"n": {"$x": 1}},
                {},
                {"n": None},
                {"nobody": None},
                {"nobody": {"$ne": 1}},
                {"n": {"a": 1}},
                {"n": {"$gt": "text"}},
            ],
            positional=[one],
        ),
        Step("everywhere", "POST /store/items/search", {"json": {"namespace_prefix": None}}),
        *[
            Step(
                f"get of {'.'.join(odd)}"[:90],
                "GET /store/items",
                {"params": {"namespace": odd, "key": "k"}},
            )
            for odd in ([".".join(one)], one, ["", "x"], [f"{space[0]}..x"])
        ],
        Step("another item", "store.put_item", {**found, "key": "l", "value": {"n": 2}}),
        Step("a third", "store.put_item", {**found, "key": "m", "value": {"n": 3}}),
        Step("the first again", "store.put_item", {**found, "key": "k", "value": {"n": 4}}),
        Step("order", "store.search_items", found),
        *each("limit", "store.search_items", "limit", [0, -1, 10, 1001, "x"], positional=[one]),
        *each("offset", "store.search_items", "offset", [-1, 3, 100], positional=[one]),
        *each("query", "store.search_items", "query", ["words", ""], positional=[one]),
        *each("of", "store.search_items", "positional", [[["nobody"]], [[*space[:1], "x"]]]),
        *each(
            "namespaces",
            "store.list_namespaces",
            "prefix",
            [one, ["*", space[1], "o"], ["n" + space[1]]],
        ),
        *each("namespaces", "store.list_namespaces", "max_depth", [1, 2, 0, -1], prefix=one),
        *each("namespaces", "store.list_namespaces", "suffix", [one[1:], ["x"]], prefix=one[:2]),
        *each("namespaces", "store.list_namespaces", "limit", [0, 1, -1], prefix=one),
        *each("namespaces", "store.list_namespaces", "offset", [1, -1], prefix=one),
        *each("delete", "store.delete_item", "key", ["k", "k", "nobody", ""], positional=[one]),
        *each("delete of", "store.delete_item", "positional", [[[]], [["nobody"]]], key="k"),
        *each("rest", "store.get_item", "key", ["k", "l"], positional=[one]),
    ]


def jobs_are_scheduled() -> list[Step]:
    daily: dict[str, Any] = {"assistant_id": "agent", "schedule": "0 5 * * *", "input": {}}
    return [
        Step("a thread", "threads.create", {}, {"thread": "thread_id"}),
        Step("made", "crons.create", daily, {"cron": "cron_id"}),
        Step("on a thread", "crons.create_for_thread", {"thread_id": "$thread", **daily}),
        Step("found", "crons.search"),
        Step("counted", "crons.count"),
        Step("changed", "crons.update", {"cron_id": "$cron", "enabled": False}),
        Step("deleted", "crons.delete", {"cron_id": "$cron"}),
        Step("deleted again", "crons.delete", {"cron_id": NOBODY}),
        Step("read", f"GET /runs/crons/{NOBODY}"),
    ]


def other_protocols_are_spoken() -> list[Step]:
    run = {"assistant_id": "agent", "input": {"messages": []}}
    listed = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    return [
        Step("a thread", "threads.create", {}, {"thread": "thread_id"}),
        Step(
            "a command",
            "POST /threads/$thread/commands",
            {"json": {"id": 1, "method": "run.start", "params": run}},
        ),
        Step("no command", "POST /threads/$thread/commands", {"json": {}}),
        Step("no channels", "POST /threads/$thread/stream/events", {"json": {}}),
        Step(
            "tools",
            "POST /mcp/",
            {"json": listed, "headers": {"accept": "application/json, text/event-stream"}},
        ),
        Step("an agent's card", "GET /.well-known/agent-card.json"),
        Step("an agent", f"POST /a2a/{NOBODY}", {"json": {**listed, "method": "message/send"}}),
    ]


def routes_are_asked_oddly() -> list[Step]:
    json_body = {"headers": {"content-type": "application/json"}}
    return [
        Step("made", "threads.create", {}, {"thread": "thread_id"}),
        *[
            Step(f"{method} {path}", f"{method} {path}")
            for method in ("HEAD", "OPTIONS", "DELETE", "PUT")
            for path in ("/ok", "/info", "/threads", "/threads/$thread", "/runs/wait")
        ],
        *[
            Step(f"GET {path}", f"GET {path}")
            for path in (
                "/nobody",
                "/threads",
                "/runs",
                "/assistants",
                "/threads/",
                "/threads/$thread/",
                "/threads/$thread/nobody",
                "/runs/crons",
                "/store",
            )
        ],
        Step("no body", "POST /threads/search"),
        Step("empty body", "POST /threads/search", {"content": "", **json_body}),
        Step("null", "POST /threads/search", {"content": "null", **json_body}),
        Step("list", "POST /threads/search", {"content": "[]", **json_body}),
        Step("half", "POST /threads/search", {"content": '{"a"', **json_body}),
        Step("NaN", "POST /threads", {"content": '{"metadata": {"a": NaN}}', **json_body}),
        Step(
            "twice",
            "POST /threads",
            {"content": '{"metadata": {"a": 1}, "metadata": {"b": 1}}', **json_body},
        ),
        Step("no type", "POST /threads", {"content": "{}"}),
        Step("text", "POST /threads", {"content": "{}", "headers": {"content-type": "text/plain"}}),
        Step("form", "POST /threads", {"data": {"a": "b"}}),
        Step(
            "deep",
            "POST /threads",
            {"content": '{"metadata":' + '{"a":' * 50 + "1" + "}" * 51, **json_body},
        ),
        Step(
            "surrogate", "POST /threads", {"content": '{"metadata": {"a": "\\ud800"}}', **json_body}
        ),
        Step("NUL", "POST /threads", {"content": '{"metadata": {"a": "\\u0000"}}', **json_body}),
        Step("unknown field", "POST /threads", {"json": {"nobody": 1}}),
        Step(
            "big integer",
            "POST /threads",
            {"content": '{"metadata": {"a": 123456789012345678901234567890}}', **json_body},
        ),
        Step("1e400", "POST /threads", {"content": '{"metadata": {"a": 1e400}}', **json_body}),
        Step("latin", "POST /threads", {"content": b'{"metadata": {"a": "\xe4"}}', **json_body}),
    ]
