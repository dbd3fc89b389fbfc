"""Rows 8, 9, 13 and 14: states that are odd or large, and what reads them."""

import asyncio
import random
from functools import partial
from typing import Any

from tests.attack.attacker import Attacker

_DEPTH = 250
_PARALLEL = 6


def _odd_messages() -> list[dict[str, Any]]:
    deep = "[" * _DEPTH + "]" * _DEPTH
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": deep}}
    objects = '{"a":' * _DEPTH + "1" + "}" * _DEPTH
    return [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{**call, "function": {"name": "f", "arguments": objects}}],
        },
        {"role": "assistant", "content": "", "additional_kwargs": {"tool_calls": [call]}},
        {
            "type": "ai",
            "content": "",
            "invalid_tool_calls": [{"name": "f", "args": deep, "id": "1", "error": None}],
        },
        {"role": "tool", "content": deep, "tool_call_id": "1"},
    ]


async def spoil_pages(attacker: Attacker) -> None:
    """Threads that no page can show whole; the pages of all threads are answered all the same."""
    threads = []
    for number in range(attacker.count(30, 10)):
        thread = await attacker.thread(metadata={"odd": True})
        message = _odd_messages()[number % 5]
        body = {"assistant_id": "chat", "input": {"messages": [message]}}
        path = f"/threads/{thread}/runs/wait"
        await attacker.ask("POST", path, body, allowed={200, 422})
        threads.append(thread)
    for number, thread in enumerate(threads[::2]):
        blob = (b"\xff\xff", b"", b"\x81\xa1", b"\xc7\xff\xff\xff" * 100)[number % 4]
        attacker.sql("UPDATE checkpoint_blobs SET blob = %s WHERE thread_id = %s", blob, thread)
    attacker.sql(
        "UPDATE checkpoints SET checkpoint = checkpoint || '{\"channel_values\": [1]}'"
        " WHERE thread_id = %s",
        threads[1],
    )
    extract = {"it": "values.messages[0].tool_calls"}
    pages: list[tuple[str, str, Any]] = [
        ("POST", "/threads/search", {"limit": 100}),
        ("POST", "/threads/search", {"limit": 100, "metadata": {"odd": True}}),
        ("POST", "/threads/search", {"limit": 100, "extract": extract}),
        ("POST", "/threads/search", {"limit": 100, "values": {"messages": []}}),
        ("POST", "/threads/count", {"values": {"messages": []}}),
    ]
    own: list[tuple[str, str, Any]] = [
        ("GET", f"/threads/{thread}{rest}", None)
        for thread in threads
        for rest in ("", "/state", "/history")
    ]

    async def one(method: str, path: str, body: Any) -> None:
        # A thread that cannot be read may say so; a page of all threads may not fail for it.
        allowed = {200} if (method, path, body) in pages else {200, 409, 413, 422, 500}
        await attacker.ask(method, path, body, allowed=allowed)

    while not attacker.over:
        calls = pages * 5 + own
        random.shuffle(calls)
        await attacker.together((partial(one, *call) for call in calls), parallel=_PARALLEL)


async def read_much(attacker: Attacker) -> None:
    """Hundreds of megabytes in one answer, several at a time."""
    megabytes = attacker.count(6)
    thread = await attacker.thread()
    await attacker.run("large", thread, input={"megabytes": megabytes, "steps": 1})
    for _ in range(attacker.count(60)):
        await attacker.ask("POST", f"/threads/{thread}/copy", allowed={200})
    long = await attacker.thread()
    given = {"megabytes": megabytes, "steps": attacker.count(36, 3)}
    await attacker.run("large", long, input=given, config={"recursion_limit": 50})
    extract = {"it": "values.out", "step": "values.step"}
    calls: list[tuple[str, str, Any]] = [
        ("POST", "/threads/search", {"limit": 61}),
        ("POST", "/threads/search", {"limit": 61, "extract": extract, "select": ["thread_id"]}),
        ("POST", "/threads/search", {"limit": 61, "values": {"step": 1}}),
        ("POST", "/threads/count", {"values": {"step": 1}}),
        ("GET", f"/threads/{long}/history?limit=36", None),
        ("POST", f"/threads/{long}/history", {"limit": 36}),
        ("GET", f"/threads/{long}/state", None),
    ]

    async def one(method: str, path: str, body: Any) -> None:
        await attacker.ask(method, path, body, allowed={200, 413, 422, 503})

    while not attacker.over:
        random.shuffle(calls)
        await attacker.together((partial(one, *call) for call in calls), parallel=_PARALLEL)


async def command(attacker: Attacker) -> None:
    """What the graph's reducers do not take; the thread's next run does not know of it."""
    wrong: list[dict[str, Any]] = [
        {"command": {"update": {"log": "notalist"}}},
        {"command": {"update": {"log": 5}}},
        {"command": {"update": [["log", {"a": 1}]]}},
        {"command": {"goto": "nowhere"}},
        {"command": {"goto": ["node", "nowhere"], "update": {"log": 7}}},
        {"command": {"resume": {"nobody": "asked"}}},
        {"input": {"log": 7}},
        {"input": {"log": {"a": 1}}},
        {"input": "text"},
        {"input": [1, 2]},
    ]
    states: list[dict[str, Any]] = [
        {"values": {"log": 7}},
        {"values": {"log": "text"}, "as_node": "node"},
        {"values": {"log": [1]}, "as_node": "nowhere"},
        {"values": [["log", 5]]},
    ]

    async def one(thread: str) -> None:
        path = f"/threads/{thread}"
        if random.random() < 0.7:
            body = {"assistant_id": "echo", **random.choice(wrong)}
            way = random.choice(("wait", "stream"))
            await attacker.ask("POST", f"{path}/runs/{way}", body)
        else:
            await attacker.ask("POST", f"{path}/state", random.choice(states))
        plain = {"assistant_id": "echo", "input": {"said": "plain"}}
        answer = await attacker.ask("POST", f"{path}/runs/wait", plain, allowed={200})
        good = answer is not None and "plain!" in answer.text
        attacker.tally.judge(good, "a plain run failed after a wrong one")

    threads = [await attacker.thread() for _ in range(attacker.count(20, 4))]

    async def always(thread: str) -> None:
        while not attacker.over:
            await one(thread)

    await attacker.together((partial(always, name) for name in threads), parallel=4)


async def overflow(attacker: Attacker) -> None:
    """A state larger than a checkpoint may be, in a thread that may be deleted meanwhile."""
    megabytes = attacker.count(300, 150)
    number = 0
    while not attacker.over:
        number += 1
        thread = await attacker.thread()
        body = {"assistant_id": "large", "input": {"megabytes": megabytes, "steps": 1}}
        if number % 2:
            path = f"/threads/{thread}/runs/wait"
            answer = await attacker.ask("POST", path, body, allowed={200})
            good = answer is not None and "CheckpointTooLarge" in answer.text[:2000]
            attacker.tally.judge(good, "a state was written that is too large")
        else:
            await attacker.ask("POST", f"/threads/{thread}/runs", body, allowed={200})
            await asyncio.sleep(0.5)
            await attacker.ask("DELETE", f"/threads/{thread}", allowed={200, 204, 409})
            # One at a time: what several graphs hold themselves is not the server's to bound.
            await asyncio.sleep(3)
    await asyncio.sleep(5)
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
        query = (
            f"SELECT count(*) FROM {table} WHERE thread_id NOT IN (SELECT thread_id FROM threads)"
        )
        rows = attacker.sql(query)[0][0]
        attacker.tally.judge(not rows, f"{rows} rows of {table} belong to no thread")
    query = "SELECT coalesce(max(length(blob)), 0) FROM checkpoint_blobs"
    size = attacker.sql(query)[0][0]
    attacker.tally.judge(size < 128 << 20, f"a blob of {size} bytes was written")
