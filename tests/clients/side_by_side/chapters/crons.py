"""Crons, with odd arguments."""

from typing import Any
from uuid import uuid4

from tests.clients.side_by_side.chapters.odd import HI, NOBODY, each
from tests.clients.side_by_side.play import Step

_DAILY: dict[str, Any] = {"assistant_id": "agent", "schedule": "0 5 * * *", "input": HI}

_ODD: list[tuple[str, list[Any]]] = [
    (
        "schedule",
        [
            "*/5 * * * *",
            "0 9 * * 1-5",
            "0 9 * * MON",
            "0 0 L * *",
            "@daily",
            "@hourly",
            "* * * * * *",
            "*/30 * * * * *",
            "0 0 0 1 1 * 2030",
            "* * * *",
            "60 * * * *",
            "0 0 31 2 *",
            "nonsense",
            " 0 5 * * * ",
            "0  5 * * *",
            "0 0 * * 7",
            "H 5 * * *",
            "",
            None,
            5,
        ],
    ),
    (
        "timezone",
        ["Europe/Berlin", "UTC", "utc", "EST", "+02:00", "Nowhere/Town", "", None, 5],
    ),
    (
        "end_time",
        [
            "2099-01-01T00:00:00Z",
            "2099-01-01T00:00:00",
            "2099-01-01T00:00:00+02:00",
            "2099-01-01",
            "2001-01-01T00:00:00Z",
            "x",
            "",
            None,
            5,
        ],
    ),
    ("enabled", [True, False, None, "x", 1, "false"]),
    ("on_run_completed", ["delete", "keep", "x", "", None]),
    ("metadata", [{}, {"a": 1}, None, [], "x", {"a": {"b": [1]}}]),
    ("webhook", ["http://127.0.0.1:9/hook", "http://nobody.invalid/hook", "x", "", None, "/hook"]),
    ("assistant_id", ["nobody", NOBODY, "", None, 5]),
    ("input", [None, {}, [], "x", {"nobody": 1}]),
    ("config", [{}, {"configurable": {"a": 1}}, {"tags": ["x"]}, [], None]),
    ("context", [{}, {"model_name": "x"}, [], None]),
    ("stream_mode", ["values", ["values", "updates"], "x", [], None]),
    ("stream_subgraphs", [True, "x"]),
    ("stream_resumable", [True, "x"]),
    ("durability", ["sync", "async", "exit", "x", None]),
    ("multitask_strategy", ["reject", "enqueue", "interrupt", "rollback", "x", None]),
    ("interrupt_before", ["*", ["reply"], ["nobody"], []]),
    ("interrupt_after", ["*", ["reply"]]),
    ("checkpoint_during", [True, False]),
    ("user_id", ["ada"]),
    ("nobody", [1]),
]


def crons_are_made() -> list[Step]:
    """Over HTTP, as the SDK refuses some of these itself; without a thread and on one."""
    steps = [Step("a thread", "threads.create", {}, {"thread": "thread_id"})]
    for name, values in _ODD:
        for number, value in enumerate(values):
            given = {**_DAILY, name: value}
            kept = f"c{name}{number}"
            steps += [
                Step(
                    f"made {name}={value!r}",
                    "POST /runs/crons",
                    {"json": given},
                    {kept: "cron_id"},
                ),
                Step(
                    f"on a thread {name}={value!r}",
                    "POST /threads/$thread/runs/crons",
                    {"json": given},
                    {f"{kept}t": "cron_id"},
                ),
                Step(
                    f"deleted {name}={value!r}",
                    f"DELETE /runs/crons/${kept}",
                    after=f"made {name}={value!r}",
                ),
            ]
    for missing in ("assistant_id", "schedule", "input"):
        given = {name: value for name, value in _DAILY.items() if name != missing}
        steps.append(Step(f"made without {missing}", "POST /runs/crons", {"json": given}))
    return [
        *steps,
        *each("thread", "crons.create_for_thread", "thread_id", [NOBODY, "not-a-uuid"], **_DAILY),
        Step("body", "POST /runs/crons", {"json": []}),
    ]


def crons_are_changed() -> list[Step]:
    steps = [Step("a thread", "threads.create", {}, {"thread": "thread_id"})]
    changes: list[tuple[str, list[Any]]] = [
        *[(name, values) for name, values in _ODD if name not in ("user_id",)],
        ("thread_id", [NOBODY]),
        ("next_run_date", ["2099-01-01T00:00:00Z"]),
    ]
    for name, values in changes:
        for number, value in enumerate(values):
            kept = f"u{name}{number}"
            steps += [
                Step(
                    "a cron",
                    "POST /runs/crons",
                    {
                        "json": {
                            **_DAILY,
                            "metadata": {"m": 1},
                            "end_time": "2098-01-01T00:00:00Z",
                        }
                    },
                    {kept: "cron_id"},
                ),
                Step(
                    f"changed {name}={value!r}",
                    f"PATCH /runs/crons/${kept}",
                    {"json": {name: value}},
                ),
                Step(
                    f"then {name}={value!r}",
                    f"GET /runs/crons/${kept}",
                    after=f"changed {name}={value!r}",
                ),
                Step("gone", f"DELETE /runs/crons/${kept}"),
            ]
    return [
        *steps,
        Step("a cron", "crons.create", _DAILY, {"cron": "cron_id"}),
        Step("nothing", "PATCH /runs/crons/$cron", {"json": {}}),
        Step("no body", "PATCH /runs/crons/$cron"),
        Step("a list", "PATCH /runs/crons/$cron", {"json": []}),
        Step("unknown", f"PATCH /runs/crons/{NOBODY}", {"json": {"enabled": False}}),
        Step("no id", "PATCH /runs/crons/not-a-uuid", {"json": {"enabled": False}}),
        Step("read", "GET /runs/crons/$cron"),
        Step("read no id", "GET /runs/crons/not-a-uuid"),
        Step("read unknown", f"GET /runs/crons/{NOBODY}"),
        Step("deleted", "DELETE /runs/crons/$cron"),
        Step("deleted again", "DELETE /runs/crons/$cron"),
        Step("deleted no id", "DELETE /runs/crons/not-a-uuid"),
    ]


def crons_are_searched() -> list[Step]:
    mark = uuid4().hex
    marked: dict[str, Any] = {"metadata": {"mark": mark}}
    kept: dict[str, dict[str, Any]] = {
        "one": {**_DAILY, "metadata": {"mark": mark, "n": 1}, "timezone": "Europe/Berlin"},
        "two": {**_DAILY, "metadata": {"mark": mark, "n": 2}, "enabled": False},
        "three": {
            **_DAILY,
            "assistant_id": "hitl",
            "schedule": "0 6 * * *",
            "metadata": {"mark": mark, "n": 3},
            "end_time": "2099-01-01T00:00:00Z",
        },
    }
    filters: list[dict[str, Any]] = [
        {},
        {"assistant_id": "agent"},
        {"assistant_id": "hitl"},
        {"assistant_id": "nobody"},
        {"assistant_id": NOBODY},
        {"assistant_id": ""},
        {"assistant_id": None},
        {"thread_id": "$thread"},
        {"thread_id": NOBODY},
        {"thread_id": "x"},
        {"thread_id": None},
        {"enabled": True},
        {"enabled": False},
        {"enabled": None},
        {"enabled": "x"},
        {"metadata": {"mark": mark, "n": 1}},
        {"metadata": {"mark": mark, "n": "1"}},
        {"metadata": []},
        {"nobody": 1},
    ]
    pages: list[dict[str, Any]] = [
        {},
        {"limit": 1},
        {"limit": 2, "offset": 1},
        {"limit": 2, "offset": 2},
        {"limit": 0},
        {"limit": -1},
        {"limit": 1000},
        {"limit": 1001},
        {"limit": "x"},
        {"limit": None},
        {"offset": -1},
        {"offset": 100},
        {"offset": None},
        *[
            {"sort_by": by}
            for by in (
                "cron_id",
                "assistant_id",
                "thread_id",
                "created_at",
                "updated_at",
                "next_run_date",
                "end_time",
                "schedule",
                "x",
                "",
                None,
            )
        ],
        {"sort_order": "desc"},
        {"sort_order": "DESC"},
        {"sort_order": "x"},
        {"sort_order": None},
        *[
            {"select": select}
            for select in (
                ["cron_id"],
                ["cron_id", "payload", "metadata", "timezone", "enabled"],
                ["user_id", "on_run_completed"],
                ["x"],
                [],
                None,
                "cron_id",
            )
        ],
    ]
    return [
        Step("a thread", "threads.create", {}, {"thread": "thread_id"}),
        *[
            Step(f"cron {name}", "POST /runs/crons", {"json": given}, {name: "cron_id"})
            for name, given in kept.items()
        ],
        Step(
            "cron on a thread",
            "POST /threads/$thread/runs/crons",
            {"json": {**_DAILY, "metadata": {"mark": mark, "n": 4}}},
            {"four": "cron_id"},
        ),
        *[
            Step(f"{path}: {odd!r}", f"POST /runs/crons/{path}", {"json": {**marked, **odd}})
            for path in ("search", "count")
            for odd in filters
        ],
        *[
            Step(
                f"search: {odd!r}",
                "POST /runs/crons/search",
                {"json": {**marked, "sort_by": "created_at", "sort_order": "asc", **odd}},
            )
            for odd in pages
        ],
        Step("no body", "POST /runs/crons/search"),
        Step("no body", "POST /runs/crons/count"),
        Step("a list", "POST /runs/crons/search", {"json": []}),
        *[Step("away", f"DELETE /runs/crons/${name}") for name in (*kept, "four")],
        Step("none", "POST /runs/crons/search", {"json": marked}),
        Step("none", "POST /runs/crons/count", {"json": marked}),
    ]


def crons_go_with_their_thread() -> list[Step]:
    mark = uuid4().hex
    given = {**_DAILY, "metadata": {"mark": mark}}
    return [
        Step("a thread", "threads.create", {}, {"thread": "thread_id"}),
        Step("made", "crons.create_for_thread", {"thread_id": "$thread", **given}),
        Step("counted", "crons.count", {"metadata": {"mark": mark}}),
        Step("the thread is deleted", "threads.delete", {"thread_id": "$thread"}),
        Step("counted after", "crons.count", {"metadata": {"mark": mark}}),
        Step(
            "an assistant",
            "assistants.create",
            {"graph_id": "agent"},
            {"assistant": "assistant_id"},
        ),
        Step("its cron", "crons.create", {**given, "assistant_id": "$assistant"}),
        Step("the assistant is deleted", "assistants.delete", {"assistant_id": "$assistant"}),
        Step("its cron after", "crons.search", {"metadata": {"mark": mark}}),
    ]
