"""Runs, with odd arguments, on threads and without one."""

from typing import Any
from uuid import uuid4

from tests.clients.side_by_side.chapters.odd import HI, NOBODY, each
from tests.clients.side_by_side.play import Step


def _run_options() -> list[tuple[str, list[Any]]]:
    return [
        (
            "input",
            [
                None,
                {},
                [],
                "x",
                5,
                True,
                {"nobody": 1},
                {"messages": "text"},
                {"messages": None},
                {"messages": [{"role": "nobody", "content": "x"}]},
                {"messages": [{"content": "x"}]},
                {"messages": []},
            ],
        ),
        (
            "config",
            [
                {},
                {"recursion_limit": "x"},
                {"recursion_limit": 0},
                {"recursion_limit": -1},
                {"recursion_limit": 1},
                {"recursion_limit": 2.5},
                {"tags": "x"},
                {"tags": ["x"]},
                {"metadata": [1]},
                {"metadata": {"a": 1}},
                {"callbacks": ["x"]},
                {"max_concurrency": -1},
                {"max_concurrency": "x"},
                {"max_concurrency": 1},
                {"configurable": []},
                {"configurable": {"a": 1}},
                {"configurable": {"thread_id": "x"}},
                {"configurable": {"checkpoint_id": 5}},
                {"configurable": {"checkpoint_id": "zz"}},
                {"run_name": "x"},
                {"run_name": 5},
                {"nobody": 1},
            ],
        ),
        ("context", [{}, {"model_name": "x"}, {"nobody": 1}, []]),
        (
            "command",
            [
                {},
                {"resume": None},
                {"resume": "yes"},
                {"goto": "nobody"},
                {"goto": "reply"},
                {"goto": ["reply"]},
                {"goto": {"node": "reply", "input": HI}},
                {"update": {"messages": []}},
                {"update": [["messages", []]]},
                {"update": [["nobody", 1]]},
                {"update": "x"},
                {"nobody": 1},
            ],
        ),
        ("checkpoint_id", ["zz", NOBODY, ""]),
        (
            "checkpoint",
            [
                {},
                {"checkpoint_id": "zz"},
                {"checkpoint_id": NOBODY},
                {"checkpoint_ns": ""},
                {"checkpoint_ns": "nobody:1"},
                {"checkpoint_map": {}},
            ],
        ),
        ("interrupt_before", ["*", [], ["reply"], ["nobody"], "reply"]),
        ("interrupt_after", ["*", ["reply"], ["nobody"]]),
        ("multitask_strategy", ["reject", "enqueue", "x", ""]),
        ("if_not_exists", ["create", "reject", "x"]),
        ("on_disconnect", ["cancel", "continue", "x"]),
        ("on_completion", ["delete", "keep", "x"]),
        ("after_seconds", [0, -1, 0.1, "x"]),
        ("durability", ["sync", "async", "exit", "x"]),
        ("checkpoint_during", [True, False]),
        ("metadata", [{}, {"a": 1}, {"a": {"b": [1]}}, []]),
        ("assistant_id", ["nobody", "", NOBODY, 5]),
    ]


def runs_are_awaited_oddly() -> list[Step]:
    """Each on a thread of its own, so that what one leaves is nothing to the next."""
    steps = []
    for number, (name, values) in enumerate(_run_options()):
        for place, value in enumerate(values):
            kept = f"t{number}x{place}"
            arguments = {"thread_id": f"${kept}", "assistant_id": "agent", "input": HI, name: value}
            if name == "command":
                arguments.pop("input")
            steps += [
                Step("a thread", "threads.create", {}, {kept: "thread_id"}),
                Step(f"wait: {name}={value!r}"[:100], "runs.wait", arguments),
                Step(
                    f"left by {name}={value!r}"[:100],
                    "threads.get",
                    {"thread_id": f"${kept}"},
                    after=f"wait: {name}={value!r}"[:100],
                ),
            ]
    return steps


def runs_make_threads() -> list[Step]:
    """With metadata of theirs, in each way in which a run makes a thread that stays."""
    mark, thread, lazy = uuid4().hex, str(uuid4()), str(uuid4())
    given = {
        "assistant_id": "agent",
        "input": HI,
        "metadata": {"mark": mark},
        "config": {"metadata": {"told": 1}},
    }
    start = {"id": 1, "method": "run.start", "params": given}
    kept = {"json": {**given, "on_completion": "keep"}}
    return [
        Step("made", "runs.wait", {"thread_id": thread, "if_not_exists": "create", **given}),
        Step("its thread", "threads.get", {"thread_id": thread}),
        Step("kept", "POST /runs", kept, {"kept": "thread_id"}),
        Step("its thread, kept", "threads.get", {"thread_id": "$kept"}, until={"status": "idle"}),
        Step("commanded", f"POST /threads/{lazy}/commands", {"json": start}),
        Step("its thread, lazy", "threads.get", {"thread_id": lazy}, until={"status": "idle"}),
        Step("counted", "threads.count", {"metadata": {"mark": mark, "told": 1}}),
        Step("a later run", "runs.wait", {"thread_id": thread, **given, "metadata": {"more": 1}}),
        Step("the thread after it", "threads.get", {"thread_id": thread}),
    ]


def runs_without_a_thread() -> list[Step]:
    steps = []
    for name, values in _run_options():
        for value in values[:6]:
            arguments = {"thread_id": None, "assistant_id": "agent", "input": HI, name: value}
            steps.append(Step(f"stateless: {name}={value!r}"[:100], "runs.wait", arguments))
    return steps


def runs_are_streamed() -> list[Step]:
    modes = [
        "values",
        "updates",
        "messages",
        "messages-tuple",
        "custom",
        "debug",
        "checkpoints",
        "tasks",
        "events",
        "x",
        "",
        [],
        ["values", "updates"],
        ["values", "values"],
        ["x"],
    ]
    graphs = ["agent", "chat", "hitl", "boom", "slow", "nested", "nested_hitl", "ctx", "tooler"]
    inputs: dict[str, Any] = {
        "hitl": {"topic": "tea"},
        "boom": {"topic": "tea"},
        "ctx": {"topic": "tea"},
        "nested_hitl": {"topic": "tea"},
        "slow": {"secs": 0.01, "n": []},
    }
    steps: list[Step] = []
    for number, mode in enumerate(modes):
        given = {"assistant_id": "chat", "input": HI, "stream_mode": mode}
        steps += [
            Step("a thread", "threads.create", {}, {f"m{number}": "thread_id"}),
            Step(f"mode {mode!r}", "runs.stream", {"thread_id": f"$m{number}", **given}),
        ]
        if mode not in ("checkpoints", "debug"):
            steps.append(Step(f"stateless {mode!r}", "runs.stream", {"thread_id": None, **given}))
    steps.append(
        Step(
            "stateless checkpoints",
            "runs.stream",
            {"thread_id": None, "assistant_id": "chat", "input": HI, "stream_mode": "checkpoints"},
        )
    )
    for graph in graphs:
        for mode in ("values", "updates", "messages", "tasks", ["values", "custom"]):
            steps.append(
                Step(
                    f"{graph} {mode}",
                    "runs.stream",
                    {
                        "thread_id": None,
                        "assistant_id": graph,
                        "input": inputs.get(graph, HI),
                        "stream_mode": mode,
                        "stream_subgraphs": graph.startswith("nested"),
                    },
                )
            )
    steps += [
        Step(
            "events of a subgraph",
            "runs.stream",
            {
                "thread_id": None,
                "assistant_id": "nested",
                "input": HI,
                "stream_mode": ["updates", "messages"],
                "stream_subgraphs": True,
            },
        ),
        Step(
            "with feedback_keys",
            "runs.stream",
            {"thread_id": None, "assistant_id": "agent", "input": HI, "feedback_keys": ["a"]},
        ),
    ]
    return steps


def runs_are_made() -> list[Step]:
    """In the background, and seen as they are made."""
    odd: list[tuple[str, list[Any]]] = [
        ("webhook", ["http://nobody.invalid/hook", "x", ""]),
        ("stream_mode", ["x", ["values", "updates"]]),
        ("stream_subgraphs", [True, "x"]),
        ("stream_resumable", [True, "x"]),
        ("on_disconnect", ["cancel", "continue"]),
        ("on_completion", ["delete", "keep"]),
        ("after_seconds", [0.1, 1e12]),
        ("feedback_keys", [["a"], []]),
        ("langsmith_tracing", [{"project_name": "x"}]),
        ("config", [{"configurable": {"a": 1}, "tags": ["x"], "metadata": {"b": 2}}]),
        ("context", [{"model_name": "x"}]),
        ("metadata", [{"a": 1}]),
        ("interrupt_before", [["reply"]]),
        ("durability", ["exit"]),
    ]
    steps = []
    for number, (name, values) in enumerate(odd):
        for place, value in enumerate(values):
            kept = f"r{number}x{place}"
            here: dict[str, Any] = {"thread_id": f"${kept}"}
            given = {"assistant_id": "agent", "input": HI, name: value}
            title = f"background {name}={value!r}"[:100]
            steps += [
                Step("a thread", "threads.create", {}, {kept: "thread_id"}),
                _with(name, title, here, given, {f"run{kept}": "run_id"}),
                Step(
                    f"joined {title}"[:100],
                    "runs.join",
                    {**here, "run_id": f"$run{kept}"},
                    after=title,
                ),
                Step(
                    f"ended {title}"[:100],
                    "runs.get",
                    {**here, "run_id": f"$run{kept}"},
                    after=title,
                ),
                Step(f"state after {title}"[:100], "threads.get_state", here, after=title),
            ]
    return steps


#: What ``runs.create`` has no parameter for.
_NO_PARAMETERS = {"feedback_keys", "on_disconnect", "langsmith_tracing"}


def _with(
    name: str, title: str, here: dict[str, Any], given: dict[str, Any], keep: dict[str, str]
) -> Step:
    if name in _NO_PARAMETERS:
        given = {
            "langsmith_tracer" if key == "langsmith_tracing" else key: value
            for key, value in given.items()
        }
        return Step(title, f"POST /threads/{here['thread_id']}/runs", {"json": given}, keep)
    return Step(title, "runs.create", {**here, **given}, keep)


def runs_are_managed() -> list[Step]:
    thread = str(uuid4())
    here: dict[str, Any] = {"thread_id": thread}
    steps = [
        Step("made", "threads.create", here),
        Step("run", "runs.wait", {**here, "assistant_id": "agent", "input": HI}),
        Step("listed", "runs.list", here, {"run": "0.run_id"}),
        Step("got", "runs.get", {**here, "run_id": "$run"}),
        Step("joined", "runs.join", {**here, "run_id": "$run"}),
        *each("odd", "runs.list", "limit", [0, -1, 1, 1001, "x"], **here),
        *each("odd", "runs.list", "offset", [-1, 5, "x"], **here),
        *each("odd", "runs.list", "status", ["success", "error", "x", ""], **here),
        *each("odd", "runs.list", "select", [["run_id"], ["x"], [], ["run_id", "status"]], **here),
    ]
    for run in ("not-a-uuid", NOBODY):
        steps += [
            Step(f"get {run}", "runs.get", {**here, "run_id": run}),
            Step(f"join {run}", "runs.join", {**here, "run_id": run}),
            Step(f"join stream {run}", "runs.join_stream", {**here, "run_id": run}),
            Step(f"cancel {run}", "runs.cancel", {**here, "run_id": run}),
            Step(f"cancel {run}, wait", "runs.cancel", {**here, "run_id": run, "wait": True}),
            Step(f"delete {run}", "runs.delete", {**here, "run_id": run}),
        ]
    steps += [
        Step("cancel what has ended", "runs.cancel", {**here, "run_id": "$run"}),
        Step("odd action", "runs.cancel", {**here, "run_id": "$run", "action": "x"}),
        *each(
            "join",
            "runs.join_stream",
            "last_event_id",
            ["-1", "0", "abc", "1795404759126-0", "99999999999999999999", ""],
            **here,
            run_id="$run",
        ),
        *each(
            "join", "runs.join_stream", "stream_mode", ["values", "x", []], **here, run_id="$run"
        ),
        Step("of another thread", "runs.get", {"thread_id": NOBODY, "run_id": "$run"}),
        Step("delete", "runs.delete", {**here, "run_id": "$run"}),
        Step("delete again", "runs.delete", {**here, "run_id": "$run"}),
        *each("odd", "runs.cancel_many", "run_ids", [[], ["not-a-uuid"], [NOBODY]], **here),
        Step("of no thread", "runs.cancel_many", {"run_ids": [NOBODY]}),
        *each("odd", "runs.cancel_many", "status", ["pending", "running", "all", "x"]),
        Step("cancel nothing", "runs.cancel_many"),
        *each(
            "odd",
            "runs.create_batch",
            "payloads",
            [
                [],
                [{}],
                [{"assistant_id": "nobody"}],
                [{"assistant_id": "agent", "input": HI}],
                [{"assistant_id": "agent", "input": HI}, {"assistant_id": "nobody"}],
                ["x"],
            ],
        ),
    ]
    return steps


#: The first node is at work.
_AT_WORK = {"next": ["s0"], "values.secs": 3}
#: Nothing has the thread any more.
_THROUGH = {"status": ("idle", "interrupted", "error")}


def _begun(kept: str) -> list[Step]:
    """A run on a thread of its own whose first node is at work."""
    here = {"thread_id": f"${kept}"}
    slow = {"assistant_id": "slow", "input": {"secs": 3, "n": []}}
    return [
        Step("a thread", "threads.create", {}, {kept: "thread_id"}),
        Step("in background", "runs.create", {**here, **slow}, {f"run{kept}": "run_id"}),
        Step("it works", "threads.get_state", here, until=_AT_WORK),
    ]


def runs_meet_on_a_thread() -> list[Step]:
    steps = []
    quick = {"assistant_id": "slow", "input": {"secs": 0.01, "n": []}}
    for strategy in ("reject", "enqueue", "interrupt", "rollback", None):
        kept = f"meet{strategy}"
        here = {"thread_id": f"${kept}"}
        steps += [
            *_begun(kept),
            Step(
                f"then {strategy}", "runs.wait", {**here, **quick, "multitask_strategy": strategy}
            ),
            Step(f"first after {strategy}", "runs.join", {**here, "run_id": f"$run{kept}"}),
            Step(f"thread after {strategy}", "threads.get", here),
            Step(f"runs after {strategy}", "runs.list", {**here, "select": ["status"]}),
            Step(f"state after {strategy}", "threads.get_state", here),
        ]
    return steps


def runs_are_cancelled() -> list[Step]:
    steps = []
    quick = {"assistant_id": "slow", "input": {"secs": 0.01, "n": []}}
    for action in ("interrupt", "rollback"):
        for wait in (True, False):
            kept = f"cancelled{action}{wait}"
            which = f"{action}, {wait}"
            here = {"thread_id": f"${kept}"}
            run = {**here, "run_id": f"$run{kept}"}
            steps += [
                *_begun(kept),
                Step(f"cancel {which}", "runs.cancel", {**run, "action": action, "wait": wait}),
                Step(f"run after {which}", "runs.get", run),
                Step(f"joined after {which}", "runs.join", run),
                Step(f"listed after {which}", "runs.list", {**here, "select": ["status"]}),
                Step(f"thread after {which}", "threads.get", here, until=_THROUGH),
                Step(f"state after {which}", "threads.get_state", here),
                Step(
                    f"follower after {which}",
                    "runs.wait",
                    {**here, **quick, "multitask_strategy": "reject"},
                ),
                Step(f"cancelled again {which}", "runs.cancel", run),
            ]
    for number, action in enumerate(("interrupt", "rollback")):
        kept = f"many{number}"
        here = {"thread_id": f"${kept}"}
        named: dict[str, Any] = {**here, "action": action, "run_ids": [f"$run{kept}", NOBODY]}
        steps += [
            *_begun(kept),
            Step(f"cancel many {number}", "runs.cancel_many", named),
            Step(f"thread after many {number}", "threads.get", here, until=_THROUGH),
            Step(f"cancel many {number} again", "runs.cancel_many", named),
        ]
    kept, here = "deleted", {"thread_id": "$deleted"}
    return [
        *steps,
        *_begun(kept),
        Step("delete at work", "runs.delete", {**here, "run_id": "$rundeleted"}),
        Step("deleted", "runs.get", {**here, "run_id": "$rundeleted"}),
        *_begun("busy"),
        Step("busy", "threads.get", {"thread_id": "$busy"}),
        Step("change while busy", "threads.update_state", {"thread_id": "$busy", "values": {}}),
        Step("delete while busy", "threads.delete", {"thread_id": "$busy"}),
        Step("gone", "threads.get", {"thread_id": "$busy"}),
    ]


def a_person_is_asked() -> list[Step]:
    steps = []
    for graph in ("hitl", "nested_hitl"):
        for number, command in enumerate(
            [
                {"resume": "yes"},
                {"resume": {"a": 1}},
                {"resume": ["x"]},
                {"resume": ""},
                {"resume": 0},
                {"resume": False},
                {"resume": "yes", "update": {"topic": "cake"}},
            ]
        ):
            kept = f"{graph}{number}"
            here: dict[str, Any] = {"thread_id": f"${kept}", "assistant_id": graph}
            steps += [
                Step("a thread", "threads.create", {}, {kept: "thread_id"}),
                Step(f"{graph} asks", "runs.wait", {**here, "input": {"topic": "tea", "log": []}}),
                Step(f"{graph} waits", "threads.get", {"thread_id": f"${kept}"}),
                Step(
                    f"{graph} state",
                    "threads.get_state",
                    {"thread_id": f"${kept}", "subgraphs": True},
                ),
                Step(f"{graph} {command!r}", "runs.wait", {**here, "command": command}),
                Step(f"{graph} after {command!r}", "threads.get", {"thread_id": f"${kept}"}),
            ]
    return steps
