"""Commands and subscriptions of the third protocol, well and badly formed."""

from typing import Any

from tests.clients.side_by_side.chapters.odd import HI, NOBODY
from tests.clients.side_by_side.play import Step

_START: dict[str, Any] = {"assistant_id": "agent", "input": HI}
_COMMANDS = "POST /threads/$thread/commands"


def commands_are_sent() -> list[Step]:
    bodies: list[Any] = [
        {},
        {"id": 1},
        {"method": "run.start"},
        {"id": "a", "method": "run.start"},
        {"id": True, "method": "run.start"},
        {"id": 1, "method": 5},
        {"id": 1, "method": ""},
        {"id": 1, "method": "nobody"},
        {"id": 1, "method": "run.cancel"},
        {"id": 1, "method": "state.get", "params": {}},
        {"id": 1, "method": "input.inject", "params": {}},
        {"id": 1, "method": "subscription.subscribe", "params": {"channels": ["values"]}},
        {"id": 1, "method": "agent.getTree"},
        {"id": 1, "method": "agent.getTree", "params": {"run_id": "x"}},
        {"id": 1, "method": "run.start"},
        {"id": 1, "method": "run.start", "params": {}},
        {"id": 1, "method": "run.start", "params": []},
        {"id": 1, "method": "run.start", "params": {"assistant_id": 5}},
        {"id": 1, "method": "run.start", "params": {"assistant_id": "nobody"}},
        {"id": 1, "method": "run.start", "params": {"assistant_id": NOBODY}},
        {"id": 1, "method": "input.respond"},
        {"id": 1, "method": "input.respond", "params": {"response": "yes"}},
        {"id": 1, "method": "input.respond", "params": {"interrupt_id": "x", "response": 1}},
        [],
        "x",
        5,
    ]
    options: list[dict[str, Any]] = [
        {},
        {"nobody": 1},
        {"metadata": {"a": 1}},
        {"config": {"configurable": {"a": 1}}},
        {"context": {"model_name": "x"}},
        {"multitask_strategy": "enqueue"},
        {"if_not_exists": "create"},
        {"metadata": "x"},
        {"config": []},
        {"multitask_strategy": "x"},
        {"durability": "x"},
        {"after_seconds": -1},
    ]
    steps = [Step("a thread", "threads.create", {}, {"thread": "thread_id"})]
    steps += [Step(f"command {body!r}"[:100], _COMMANDS, {"json": body}) for body in bodies]
    for number, option in enumerate(options):
        steps += [
            Step("a thread", "threads.create", {}, {f"t{number}": "thread_id"}),
            Step(
                f"start {option!r}",
                f"POST /threads/$t{number}/commands",
                {"json": {"id": 1, "method": "run.start", "params": {**_START, **option}}},
            ),
        ]
    return [
        *steps,
        Step(
            "no json", _COMMANDS, {"content": "{", "headers": {"content-type": "application/json"}}
        ),
        Step(
            "unknown thread",
            f"POST /threads/{NOBODY}/commands",
            {
                "json": {
                    "id": 1,
                    "method": "input.respond",
                    "params": {"interrupt_id": "x", "response": 1},
                }
            },
        ),
    ]


def questions_are_answered() -> list[Step]:
    """By `run.start`, whose input is the answer, and by `input.respond`."""
    here = {"thread_id": "$thread"}
    asked = {"assistant_id": "hitl", "input": {"topic": "tea", "log": []}}
    steps = []
    for number, (method, params) in enumerate(
        [
            ("run.start", {"assistant_id": "hitl", "input": "yes"}),
            ("input.respond", {"namespace": [], "interrupt_id": "$asked", "response": "yes"}),
            (
                "input.respond",
                {"responses": [{"namespace": [], "interrupt_id": "$asked", "response": "yes"}]},
            ),
        ]
    ):
        steps += [
            Step("a thread", "threads.create", {}, {"thread": "thread_id"}),
            Step("a question", "runs.wait", {**here, **asked}, {"asked": "__interrupt__.0.id"}),
            Step(
                f"answered {number}",
                _COMMANDS,
                {"json": {"id": 2, "method": method, "params": params}},
            ),
            Step(
                f"after {number}",
                "threads.get_state",
                here,
                until={"values.answer": "yes", "next": []},
            ),
            Step(
                f"answered again {number}",
                _COMMANDS,
                {
                    "json": {
                        "id": 3,
                        "method": "input.respond",
                        "params": {"interrupt_id": "$asked", "response": "yes"},
                    }
                },
            ),
        ]
    return steps


def subscriptions_are_refused() -> list[Step]:
    bodies: list[Any] = [
        {},
        {"channels": []},
        {"channels": "values"},
        {"channels": ["nobody"]},
        {"channels": ["values", "nobody"]},
        {"channels": ["debug"]},
        {"channels": ["custom:"]},
        {"channels": [5]},
        [],
        "x",
    ]
    path = "POST /threads/$thread/stream/events"
    return [
        Step("a thread", "threads.create", {}, {"thread": "thread_id"}),
        *[Step(f"subscription {body!r}", path, {"json": body}) for body in bodies],
    ]
