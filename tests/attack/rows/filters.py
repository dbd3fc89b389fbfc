"""Rows 2, 3, 7 and 12: what one request may make others work on."""

import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from tests.attack.attacker import Attacker

_PARALLEL = 6
_QUICK_SECONDS = 12.0
_REFUSED = {413, 422}
#: A place among lists is waited for before a filter is looked at.
_TOO_LARGE = {422, 503}
#: What may be told of a filter: it was compared, it is too large, or the server has too much to do.
_BOUNDED = {200, 422, 503}

Call = Callable[[], Awaitable[Any]]


def _for_ever(calls: list[Call]) -> Iterator[Call]:
    while True:
        random.shuffle(calls)
        yield from calls


async def compare(attacker: Attacker) -> None:
    """Lists of a filter against lists of a state, item by item."""
    items = attacker.count(50_000)
    for wrapped in (False, True) * 3:
        out = [[number] for number in range(items)] if wrapped else [1] * (items - 1) + [2]
        update = {"values": {"out": out}, "as_node": "__start__"}
        await attacker.thread(metadata={"graph_id": "echo"}, supersteps=[{"updates": [update]}])
    filters = [
        {"out": [[items + number] for number in range(100)]},
        {"out": [[number] for number in range(items, items - 100, -1)]},
        {"out": [1] * 100},
        {"out": [1] * 2000},
        {"out": [[n] for n in range(2000)]},
        {"out": [{"a": n} for n in range(100)]},
    ]

    async def one(path: str, wanted: Any) -> None:
        began = time.monotonic()
        await attacker.ask("POST", path, {"values": wanted, "limit": 10}, allowed=_BOUNDED)
        attacker.tally.judge(time.monotonic() - began < _QUICK_SECONDS, f"{path} took its time")

    calls: list[Call] = [
        partial(one, path, wanted)
        for path in ("/threads/search", "/threads/count")
        for wanted in filters
    ]
    await attacker.together(_for_ever(calls), parallel=_PARALLEL)


async def contain(attacker: Attacker) -> None:
    """Metadata and filters that cost Postgres their product."""
    many = [[number] for number in range(4_900)]
    body = json.dumps({"metadata": {"a": many}}).encode()
    await attacker.ask("POST", "/threads", body, allowed={200})
    # As many as if it had asked for them one by one.
    copies = (
        "INSERT INTO threads (thread_id, metadata) SELECT gen_random_uuid()::text, metadata"
        " FROM threads, generate_series(1, %s) WHERE metadata ? 'a'"
    )
    attacker.sql(copies, attacker.count(300))
    assistant = {"graph_id": "echo", "metadata": {"a": many}}
    made: list[str] = []
    for _ in range(10):
        answer = await attacker.ask("POST", "/assistants", assistant, allowed={200})
        if answer is not None and answer.status_code == 200:
            made.append(answer.json()["assistant_id"])
    routes = ["/threads/search", "/threads/count", "/assistants/search", "/assistants/count"]
    routes += [f"/assistants/{one}/versions" for one in made[:1]]
    filters = [
        many[4_800:],
        [[-1 - number] for number in range(100)],
        [many[number] for number in range(4_899, 4_800, -1)] + [[-1]],
        many[:4_000],
    ]
    calls: list[Call] = [
        (
            partial(
                attacker.ask,
                "POST",
                path,
                {"metadata": {"a": wanted}},
                allowed=_BOUNDED if len(wanted) <= 100 else _TOO_LARGE,
            )
        )
        for path in routes
        for wanted in filters
    ]
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    calls += [
        partial(attacker.ask, "POST", path, {"metadata": {"a": deep}}, allowed=_TOO_LARGE)
        for path in routes
    ]
    store = {"namespace_prefix": ["a"], "filter": {"a": many[:4_000]}}
    calls.append(partial(attacker.ask, "POST", "/store/items/search", store, allowed=_TOO_LARGE))
    await attacker.together(_for_ever(calls), parallel=_PARALLEL)


def _fields(thread: str) -> list[tuple[str, str, str]]:
    """Method, path, and a body whose list is longer than anybody needs."""
    run = '{"assistant_id": "echo", "input": {}, %s}'
    return [
        ("POST", "/threads/search", '{"select": LIST}'),
        ("POST", "/threads/search", '{"ids": LIST}'),
        ("POST", "/threads/count", '{"ids": LIST}'),
        ("POST", "/threads/search", '{"metadata": {"a": LIST}}'),
        ("POST", "/threads/search", '{"values": {"a": LIST}}'),
        ("POST", "/threads/prune", '{"thread_ids": LIST}'),
        ("POST", "/threads", '{"supersteps": LIST}'),
        ("POST", "/threads", '{"supersteps": [{"updates": LIST}]}'),
        ("POST", "/threads", '{"metadata": {"a": LIST}}'),
        ("POST", "/assistants/search", '{"select": LIST}'),
        ("POST", "/assistants", '{"graph_id": "echo", "config": {"configurable": {"a": LIST}}}'),
        ("POST", "/runs/wait", run % '"stream_mode": LIST'),
        ("POST", "/runs/stream", run % '"interrupt_before": LIST'),
        ("POST", "/runs/wait", run % '"interrupt_after": LIST'),
        ("POST", "/runs/wait", run % '"command": {"goto": LIST}'),
        ("POST", "/runs/wait", run % '"command": {"update": LIST}'),
        ("POST", "/runs/wait", run % '"config": {"tags": LIST}'),
        ("POST", "/runs/wait", '{"assistant_id": "echo", "input": {"out": LIST}}'),
        ("POST", "/runs/batch", "LIST"),
        ("POST", "/runs/cancel", '{"run_ids": LIST}'),
        ("POST", f"/threads/{thread}/state", '{"values": LIST}'),
        ("POST", f"/threads/{thread}/history", '{"metadata": {"a": LIST}}'),
        ("POST", "/store/items/search", '{"namespace_prefix": LIST}'),
        ("POST", "/store/namespaces", '{"prefix": LIST}'),
        ("PUT", "/store/items", '{"namespace": LIST, "key": "k", "value": {}}'),
        ("POST", "/chat", '{"messages": LIST}'),
    ]


async def repeat(attacker: Attacker) -> None:
    """Millions of items, none of which is right."""
    # Never fewer than a body may hold: fewer are right in some fields.
    ones = attacker.count(4_000_000, 600_000)
    items = b"[" + b"1," * (ones - 1) + b"1]"
    fields = _fields(await attacker.thread())
    bodies = [(method, path, body.encode()) for method, path, body in fields]

    async def one(method: str, path: str, body: bytes) -> None:
        whole = body.replace(b"LIST", items)
        what = f"{path} {body.decode()}"
        await attacker.ask(method, path, whole, allowed={*_REFUSED, 503}, what=what)

    calls: list[Call] = [partial(one, *one_of) for one_of in bodies]
    await attacker.together(_for_ever(calls), parallel=8)


_SECRET = "canary-in-configurable-5b1c"
_MOST_METADATA_BYTES = 16 * 1024


async def configure(attacker: Attacker) -> None:
    """Configurations that would be copied into each checkpoint."""
    large = "x" * attacker.count(3_000_000, 300_000)
    thread = await attacker.thread()
    wrong: list[tuple[str, dict[str, Any]]] = []
    for extra in (
        {"metadata": {"a": large}},
        {"config": {"configurable": {"a": large}}},
        {"config": {"metadata": {"a": large}}},
        {"context": {"a": large}},
        {"config": {"recursion_limit": 10**9}},
    ):
        run = {"assistant_id": "echo", "input": {}, **extra}
        wrong += [(path, run) for path in ("/runs/wait", f"/threads/{thread}/runs", "/runs")]
        wrong.append(("/assistants", {"graph_id": "echo", **extra}))
    wrong.append(("/threads", {"metadata": {"a": large}}))
    bodies = [(path, json.dumps(body).encode()) for path, body in wrong]
    calls: list[Call] = [
        partial(attacker.ask, "POST", path, body, allowed={422}) for path, body in bodies
    ]
    allowed = {
        "assistant_id": "large",
        "input": {"megabytes": 0, "steps": 30},
        "metadata": {"note": "x" * 60_000},
        "config": {
            "recursion_limit": 100,
            "configurable": {
                "password": _SECRET,
                "api_key": _SECRET,
                "auth": {"token": _SECRET},
                "rest": "y" * 250_000,
            },
        },
    }
    path = f"/threads/{thread}/runs/wait"
    calls.append(partial(attacker.ask, "POST", path, allowed, allowed={200}))
    await attacker.together(_for_ever(calls), parallel=4)
    size = attacker.sql("SELECT coalesce(max(pg_column_size(metadata)), 0) FROM checkpoints")[0][0]
    attacker.tally.notes.append(f"the largest metadata of a checkpoint has {size} bytes")
    attacker.tally.judge(size < _MOST_METADATA_BYTES, f"a checkpoint's metadata has {size} bytes")
    query = (
        "SELECT count(*) FROM checkpoints WHERE metadata::text LIKE %s OR checkpoint::text LIKE %s"
    )
    found = attacker.sql(query, f"%{_SECRET}%", f"%{_SECRET}%")[0][0]
    attacker.tally.judge(not found, f"{found} checkpoints hold a secret of configurable")
