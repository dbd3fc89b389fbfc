"""Rows 1 and 16: what those who follow runs send, and what they read."""

import asyncio
import json
from typing import Any
from uuid import uuid4

from tests.attack.attacker import Attacker
from tests.support.shared_loops import LOOPS

_ODD_IDS = (
    "99999999999999999999",
    "-99999999999999999999",
    "1e400",
    "x" * 3000,
    "0",
    "RUN:99999999999999999999",
    "RUN:9223372036854775808",
    "RUN:-1",
    "RUN:",
    "ffffffff-ffff-ffff-ffff-ffffffffffff:1",
    "00000000-0000-4000-8000-000000000000:1",
)
_FOLLOWERS = 300
_QUEUED = 12


async def spoil_loops(attacker: Attacker) -> None:
    """Ids, rows and graphs that break what all followers share; then others' waits are answered."""
    thread = await attacker.thread()
    body = {"assistant_id": "sleeper", "input": {"seconds": 20}, "stream_resumable": True}
    answer = await attacker.http.post(f"/threads/{thread}/runs", json=body)
    run = answer.json()["run_id"]
    queued = await attacker.thread()
    async with asyncio.TaskGroup() as group:
        followers = []
        for number in range(attacker.count(_FOLLOWERS)):
            given = _ODD_IDS[number % len(_ODD_IDS)].replace("RUN", run)
            for path in (f"/threads/{thread}/runs/{run}/stream", f"/threads/{thread}/stream"):
                held = attacker.hold("GET", path, headers={"Last-Event-ID": given})
                followers.append(group.create_task(held))
        await _poison(attacker, run, queued)
        while attacker.left > 12:
            for name in sorted(LOOPS):
                await attacker.run("canceller", input={"names": [name]})
                attacker.tally.tried += 1
            await asyncio.sleep(2)
        for follower in followers:
            follower.cancel()
    await asyncio.gather(*(_waits_its_turn(attacker) for _ in range(_QUEUED)))


async def _poison(attacker: Attacker, run: str, thread: str) -> None:
    """What no code of ours writes into the tables."""
    insert = (
        "INSERT INTO run_events (run_id, event_id, attempt, event, data) VALUES (%s,%s,%s,%s,%s)"
    )
    for number, data in enumerate((b"\xff\xfe", b"", b"{", b"null", b"x" * 1_000_000)):
        attacker.sql(insert, run, 1000 + number, 1, "values\nid: 5", data)
        attacker.tally.tried += 1
    first = {"assistant_id": "sleeper", "input": {"seconds": 3}}
    await attacker.http.post(f"/threads/{thread}/runs", json=first)
    for kwargs in ("[]", '"text"', "null", '{"input": 5, "config": 7}', '{"command": []}'):
        path = f"/threads/{thread}/runs"
        made = await attacker.http.post(path, json={"assistant_id": "echo", "input": {}})
        change = "UPDATE runs SET kwargs = %s WHERE run_id = %s"
        attacker.sql(change, kwargs, made.json()["run_id"])
        attacker.tally.tried += 1
    attacker.sql("UPDATE threads SET state_updated_at = 'infinity' WHERE thread_id = %s", thread)


async def _waits_its_turn(attacker: Attacker) -> None:
    """Another run of the thread is executed first; both a wait and a join are answered."""
    thread = await attacker.thread()
    path = f"/threads/{thread}/runs"
    first = {"assistant_id": "sleeper", "input": {"seconds": 1}}
    await attacker.http.post(path, json=first)
    joined = (await attacker.http.post(path, json={"assistant_id": "echo", "input": {}})).json()
    wait = {"assistant_id": "echo", "input": {"said": "turn"}}
    async with asyncio.timeout(20):
        waited, join = await asyncio.gather(
            attacker.http.post(f"{path}/wait", json=wait),
            attacker.http.get(f"{path}/{joined['run_id']}/join"),
        )
    attacker.tally.judge("turn!" in waited.text, f"a queued wait said {waited.text[:100]}")
    attacker.tally.judge("__error__" not in join.text, f"a join said {join.text[:100]}")


_STEPS = 5
_MEGABYTES = 50
_STALLED = 10


async def large_events(attacker: Attacker) -> None:
    """Events that are larger than any buffer, to readers of every speed. Run by run: what several
    graphs hold themselves is not the server's to bound."""
    megabytes = attacker.count(_MEGABYTES)
    body = {
        "assistant_id": "large",
        "input": {"megabytes": megabytes, "steps": _STEPS},
        "stream_mode": ["values", "updates", "debug"],
    }
    slow = {**body, "stream_mode": ["values"], "input": {"megabytes": megabytes // 10}}
    await _read(attacker, "/runs/stream", slow, bytes_per_second=1e6, whole=True)
    thread = await attacker.thread()
    runs = f"/threads/{thread}/runs"
    body["on_disconnect"] = "continue"
    async with asyncio.TaskGroup() as readers:
        readers.create_task(
            _read(attacker, f"{runs}/stream", body, bytes_per_second=None, whole=True)
        )
        await asyncio.sleep(0.3)
        run = (await attacker.http.get(runs)).json()[0]["run_id"]
        for number in range(attacker.count(_STALLED)):
            path = f"{runs}/{run}/stream"
            speed = 1e6 if not number else number % 2 and 1.0
            readers.create_task(_read(attacker, path, None, bytes_per_second=speed))


async def _read(
    attacker: Attacker,
    path: str,
    body: dict[str, Any] | None,
    *,
    bytes_per_second: float | None,
    whole: bool = False,
) -> None:
    """
    :param bytes_per_second: None as fast as it comes, 0 nothing.
    :param whole: the stream must end with its end.
    """
    attacker.tally.tried += 1
    content = b"" if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: {uuid4().hex}\r\nconnection: close\r\n"
        f"x-api-key: {attacker.address.attacker_key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", attacker.address.port)
    tail, count = b"", 0
    try:
        writer.write(head.encode() + content)
        # Those who follow it in the other process have all of its events stored: a gigabyte.
        async with asyncio.timeout(attacker.left + (90 if whole else 0)):
            if bytes_per_second == 0:
                await asyncio.sleep(attacker.left)
            while data := await reader.read(1 << 16):
                tail, count = (tail + data)[-4096:], count + len(data)
                if bytes_per_second is not None:
                    await asyncio.sleep(len(data) / bytes_per_second)
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    if whole:
        told = f"a reader of {bytes_per_second or 'all'} B/s was cut after {count >> 20} MiB"
        attacker.tally.judge(b"event: end" in tail, f"{told}: {tail[-100:]!r}")
        attacker.tally.notes.append(f"a reader got {count >> 20} MiB")
