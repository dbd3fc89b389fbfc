"""Crons that fire, each minute: what a firing makes, and what it leaves."""

from typing import Any
from uuid import uuid4

from tests.clients.side_by_side.chapters.odd import HI
from tests.clients.side_by_side.play import Step

_EACH_MINUTE = "* * * * *"
_YEARLY = "0 0 1 1 *"
#: Until a slot of each minute has its run.
_SLOT_SECONDS = 80.0
#: The state of ``hitl`` and ``boom``.
_TOPIC = {"topic": "news"}
#: ``slow`` takes three times as long: longer than the chapter needs it.
_BUSY = {"secs": 40.0}
_STRATEGIES = ("reject", "enqueue", "interrupt", "rollback")

#: Crons that keep the thread of each run, by name, and how their threads end.
_KEPT: dict[str, tuple[dict[str, Any], str]] = {
    "plain": (
        {
            "config": {"configurable": {"a": 1}, "tags": ["t"], "metadata": {"m": 1}},
            "stream_mode": ["values", "updates"],
            "durability": "sync",
        },
        "idle",
    ),
    "context": ({"assistant_id": "ctx", "input": _TOPIC, "context": {"model_name": "x"}}, "idle"),
    "stopped": ({"interrupt_before": ["reply"]}, "interrupted"),
    "asking": ({"assistant_id": "hitl", "input": _TOPIC}, "interrupted"),
    "failing": ({"assistant_id": "boom", "input": _TOPIC}, "error"),
    "of an assistant": ({"assistant_id": "$assistant"}, "idle"),
    "moved": ({"schedule": _YEARLY}, "idle"),
    "changed": ({}, "idle"),
    "unwatched": ({"assistant_id": "slow", "input": {"secs": 3.0}}, "idle"),
}

#: After the slot there is no thread of these.
_WITHOUT_THREADS = ("deleting", "saying nothing of its thread", "turned off")


def crons_fire() -> list[Step]:
    mark = uuid4().hex

    def wanted(name: str, **more: Any) -> dict[str, Any]:
        given = {"assistant_id": "agent", "schedule": _EACH_MINUTE, "input": HI, **more}
        return {**given, "metadata": {"mark": mark, "of": name}}

    def made(name: str, **more: Any) -> Step:
        return Step(f"{name}: made", "crons.create", wanted(name, **more), {_key(name): "cron_id"})

    def on_thread(name: str, **more: Any) -> list[Step]:
        thread, where = f"{_key(name)}thread", f"${_key(name)}thread"
        return [
            Step(f"{name}: its thread", "threads.create", {}, {thread: "thread_id"}),
            Step(
                f"{name}: made",
                "crons.create_for_thread",
                {"thread_id": where, **wanted(name, **more)},
                {_key(name): "cron_id"},
            ),
        ]

    def of(name: str) -> dict[str, Any]:
        return {"metadata": {"mark": mark, "of": name}}

    return [
        made("the minute begins", on_run_completed="keep"),
        Step(
            "the minute begins: it fires",
            "threads.search",
            of("the minute begins"),
            until={"0.status": "idle"},
            within=_SLOT_SECONDS,
        ),
        Step(
            "an assistant",
            "assistants.create",
            {"graph_id": "agent", "metadata": {"am": 1}},
            {"assistant": "assistant_id"},
        ),
        Step("another", "assistants.create", {"graph_id": "agent"}, {"mortal": "assistant_id"}),
        *[made(name, on_run_completed="keep", **more) for name, (more, _) in _KEPT.items()],
        made("deleting", on_run_completed="delete"),
        made("saying nothing of its thread"),
        made("off", on_run_completed="keep", enabled=False),
        made("turned off", on_run_completed="keep"),
        made("without its assistant", on_run_completed="keep", assistant_id="$mortal"),
        *on_thread("on a thread"),
        *on_thread("without its thread"),
        *[
            step
            for strategy in _STRATEGIES
            for step in (
                *on_thread(strategy, assistant_id="slow", multitask_strategy=strategy),
                Step(
                    f"{strategy}: a run in the background",
                    "runs.create",
                    {
                        "thread_id": f"${strategy}thread",
                        "assistant_id": "slow",
                        "input": _BUSY,
                        "metadata": {"own": 1},
                    },
                ),
            )
        ],
        _changed("moved", schedule=_EACH_MINUTE),
        _changed("changed", input={"messages": []}, metadata={"of": "changed", "more": 1}),
        _changed("turned off", enabled=False),
        Step("its assistant goes", "assistants.delete", {"assistant_id": "$mortal"}),
        Step("its thread goes", "threads.delete", {"thread_id": "$withoutitsthreadthread"}),
        Step(
            "unwatched: it runs",
            "threads.search",
            of("unwatched"),
            until={"0.status": "busy"},
            within=_SLOT_SECONDS,
        ),
        Step("unwatched: deleted while it runs", "crons.delete", {"cron_id": "$unwatched"}),
        _changed("off", enabled=True),
        Step(
            "off: the slot that has passed",
            "threads.search",
            of("off"),
            until={"0.status": "idle"},
            within=12.0,
        ),
        *[
            step
            for name, (_, status) in _KEPT.items()
            for step in (
                Step(
                    f"{name}: it has fired",
                    "threads.search",
                    of(name),
                    {f"{_key(name)}made": "0.thread_id"},
                    until={"0.status": status},
                    within=30.0,
                ),
                Step(f"{name}: its runs", f"GET /threads/${_key(name)}made/runs"),
                Step(f"{name}: its state", "threads.get_state", _made(name)),
                Step(f"{name}: the cron", f"GET /runs/crons/${_key(name)}"),
            )
        ],
        *[
            step
            for name in _WITHOUT_THREADS
            for step in (
                Step(f"{name}: its threads", "threads.search", of(name)),
                Step(f"{name}: the cron", f"GET /runs/crons/${_key(name)}"),
            )
        ],
        *[
            Step(f"{name}: the cron", f"GET /runs/crons/${_key(name)}")
            for name in ("without its assistant", "without its thread")
        ],
        Step("on a thread: its runs", "GET /threads/$onathreadthread/runs"),
        *[
            step
            for strategy in _STRATEGIES
            for step in (
                Step(f"{strategy}: its runs", f"GET /threads/${strategy}thread/runs"),
                Step(f"{strategy}: its thread after", "threads.get", _thread(strategy)),
            )
        ],
        *[
            Step(f"{name}: gone", f"DELETE /runs/crons/${_key(name)}")
            for name in ("the minute begins", *_KEPT, *_WITHOUT_THREADS, "off", "on a thread")
        ],
        *[
            step
            for strategy in _STRATEGIES
            for step in (
                Step(f"{strategy}: gone", f"DELETE /runs/crons/${strategy}"),
                Step(f"{strategy}: its thread is gone", "threads.delete", _thread(strategy)),
            )
        ],
    ]


def _key(name: str) -> str:
    """The name under which a cron's id is kept."""
    return name.replace(" ", "")


def _made(name: str) -> dict[str, str]:
    return {"thread_id": f"${_key(name)}made"}


def _thread(name: str) -> dict[str, str]:
    return {"thread_id": f"${_key(name)}thread"}


def _changed(name: str, **changes: Any) -> Step:
    given = {"cron_id": f"${_key(name)}", **changes}
    return Step(f"{name}: it is changed", "crons.update", given)
