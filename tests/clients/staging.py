"""What went on around the recorded exchanges unwritten: runs begun, awaited, stopped.

Waits are on what the server says, so that a replay takes as long as it must and no longer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.clients.replay import Exchange, Replay

Step = Callable[[Replay], Awaitable[None]]

#: Of recorded runs that sleep this is enough: longer is only slower.
LONGEST_SLEEP = 0.2


@dataclass(frozen=True)
class Stage:
    """Steps around one exchange.

    :ivar before: ahead of the request.
    :ivar during: once the answer's headers and ``after_events`` events are there.
    :ivar secs: how long each step of the run may sleep; more where it is to be met asleep.
    """

    before: tuple[Step, ...] = ()
    during: tuple[Step, ...] = ()
    after_events: int = 0
    secs: float = LONGEST_SLEEP


async def thread(replay: Replay, symbol: str) -> str:
    """The live thread of ``symbol``, made where there is none."""
    if symbol not in replay.ids.live:
        made = await replay.client.post("/threads", json={})
        replay.ids.bind(symbol, made.json()["thread_id"])
    return replay.ids.live[symbol]


def run(of: str, symbol: str | None = None, **body: Any) -> Step:
    """A run in the background."""

    async def step(replay: Replay) -> None:
        path = f"/threads/{await thread(replay, of)}/runs"
        made = await replay.client.post(path, json={"assistant_id": "slow", **body})
        assert made.status_code == 200, made.text
        if symbol:
            replay.ids.bind(symbol, made.json()["run_id"])

    return step


def settled(of: str) -> Step:
    """No run of the thread is left."""

    async def step(replay: Replay) -> None:
        path = f"/threads/{replay.ids.live[of]}"
        await asked_until(replay, path, lambda answer: answer.json()["status"] != "busy")

    return step


def steps_done(of: str, count: int) -> Step:
    """The thread's values tell of so many steps of ``slow``."""

    async def step(replay: Replay) -> None:
        path = f"/threads/{replay.ids.live[of]}/state"
        await asked_until(
            replay, path, lambda answer: len(answer.json()["values"].get("n", [])) >= count
        )

    return step


def gone(path: str) -> Step:
    async def step(replay: Replay) -> None:
        await asked_until(replay, replay.ids.fill(path), lambda answer: answer.status_code == 404)

    return step


async def asked_until(replay: Replay, path: str, holds: Callable[[Any], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds(await replay.client.get(path)):
            await asyncio.sleep(0.05)


def cancelled(of: str, run_of: str | None = None, action: str = "interrupt") -> Step:
    """A run of the thread, by symbol or the newest, is told to stop."""

    async def step(replay: Replay) -> None:
        path = f"/threads/{replay.ids.live[of]}/runs"
        run_id = (
            replay.ids.live[run_of]
            if run_of
            else (await replay.client.get(path)).json()[0]["run_id"]
        )
        await replay.client.post(f"{path}/{run_id}/cancel", params={"action": action})

    return step


def deleted(of: str) -> Step:
    async def step(replay: Replay) -> None:
        await replay.client.delete(f"/threads/{replay.ids.live[of]}")

    return step


def sent(path: str, body: Any) -> Step:
    async def step(replay: Replay) -> None:
        answer = await replay.client.post(replay.ids.fill(path), json=body)
        assert answer.status_code == 200, answer.text

    return step


def checkpoint_before(of: str, node: str, symbol: str) -> Step:
    """Binds the checkpoint from which ``node`` comes next."""

    async def step(replay: Replay) -> None:
        path = f"/threads/{replay.ids.live[of]}/history"
        states = (await replay.client.post(path, json={"limit": 10})).json()
        found = next(state for state in states if state["next"] == [node])
        replay.ids.bind(symbol, found["checkpoint"]["checkpoint_id"])

    return step


def unknown_interrupt(symbol: str) -> Step:
    """Binds the id of an interrupt that nobody waits for."""

    async def step(replay: Replay) -> None:
        replay.ids.bind(symbol, uuid4().hex)

    return step


def joined_while_pending(of: str, symbol: str, *first: Step, **body: Any) -> Stage:
    """The run waits behind one that makes way when the stream is open."""
    ahead = f"{of} ahead"
    return Stage(
        before=(
            *first,
            run(of, ahead, input={"secs": 30}),
            run(of, symbol, **{"input": {"secs": 0.05}, **body}),
        ),
        during=(cancelled(of, ahead, "rollback"),),
    )


_BOTH: dict[str, Any] = {"stream_mode": ["values", "custom"]}
_SLOW: dict[str, Any] = {"input": {"secs": LONGEST_SLEEP}}

_LONG = 0.6

#: By chapter and place in it.
STAGES: dict[tuple[str, int], Stage] = {
    ("resumable", 6): Stage(before=(settled("<35>"),)),
    ("resumable", 9): Stage(before=(settled("<36>"),)),
    ("background", 4): Stage(secs=_LONG),
    ("background", 6): Stage(before=(steps_done("<37>", 5),)),
    ("background", 12): Stage(before=(gone("/threads/<37>/runs/<40>"), settled("<37>"))),
    ("multitask", 0): Stage(before=(run("<43>", **_SLOW),)),
    ("multitask", 1): Stage(before=(settled("<43>"),)),
    ("multitask", 3): Stage(before=(run("<44>", **_SLOW),)),
    ("multitask", 4): Stage(before=(settled("<44>"),)),
    ("multitask", 6): Stage(before=(run("<45>", **_SLOW),)),
    ("multitask", 7): Stage(before=(settled("<45>"),)),
    ("multitask", 9): Stage(before=(run("<46>", **_SLOW),)),
    ("multitask", 10): Stage(before=(settled("<46>"),)),
    ("multitask", 12): Stage(before=(run("<47>", input={"secs": 5}),)),
    ("state", 1): Stage(
        before=(
            sent(
                "/threads/<54>/runs/wait",
                {
                    "assistant_id": "agent",
                    "input": {"messages": [{"role": "user", "content": "one", "id": "m1"}]},
                },
            ),
            checkpoint_before("<54>", "reply", "<55>"),
        )
    ),
    **{
        ("thread_stream", place): Stage(during=(run("<63>", input={"secs": 0.05}),))
        for place in range(3)
    },
    ("cancelled", 0): Stage(during=(cancelled("<69>"),), after_events=2, secs=_LONG),
    ("cancelled", 1): Stage(during=(steps_done("<70>", 1), cancelled("<70>")), secs=_LONG),
    ("cancelled", 2): Stage(
        during=(cancelled("<71>", action="rollback"),), after_events=3, secs=_LONG
    ),
    ("cancelled", 3): Stage(
        during=(steps_done("<72>", 1), cancelled("<72>", action="rollback")), secs=_LONG
    ),
    ("cancelled", 4): Stage(
        during=(run("<73>", multitask_strategy="interrupt", **_SLOW),), after_events=3, secs=_LONG
    ),
    ("cancelled", 5): Stage(during=(deleted("<74>"),), after_events=3, secs=_LONG),
    ("join_stream", 0): joined_while_pending("<75>", "<76>", **_BOTH),
    ("join_stream", 1): joined_while_pending("<77>", "<78>", **_BOTH),
    ("join_stream", 2): joined_while_pending("<79>", "<80>", **_BOTH),
    ("join_stream", 3): joined_while_pending("<81>", "<82>", **_BOTH),
    ("join_stream", 4): joined_while_pending("<83>", "<84>", **_BOTH),
    ("join_stream", 5): joined_while_pending("<85>", "<86>", **_BOTH),
    ("join_stream", 6): joined_while_pending("<87>", "<88>", **_BOTH),
    ("join_stream", 7): joined_while_pending("<89>", "<90>", input={"secs": 5}),
    ("join_stream", 8): Stage(before=(settled("<89>"),)),
    ("join_stream", 9): Stage(
        before=(
            run("<91>", "<92>", input={"secs": 0.05}, stream_resumable=True, **_BOTH),
            settled("<91>"),
        )
    ),
    **{
        ("thread_stream_modes", place): Stage(during=(run("<94>", input={"secs": 0.05}),))
        for place in range(3)
    },
    ("options", 2): Stage(before=(unknown_interrupt("<98>"),)),
    ("odd_routes", 4): joined_while_pending(
        "<105>", "<106>", run("<105>", input={"secs": 0.05}), settled("<105>"), **_BOTH
    ),
    ("odd_routes", 5): Stage(before=(settled("<105>"),)),
}

#: Their answers list threads that the recording's server had from before: only the first is ours.
_LIST_OTHERS = {("threads", 19), ("interrupts", 4)}


def without_others(chapter: str, place: int, one: Exchange) -> Exchange:
    """The exchange without what it says of others' threads."""
    if (chapter, place) not in _LIST_OTHERS:
        return one
    kept = {name: value for name, value in one["headers"].items() if "pagination" not in name}
    return {**one, "headers": kept, "json": [one["json"][0], "<cut>"]}


def shortened(one: Exchange, longest: float) -> Exchange:
    """The exchange with sleeps of at most ``longest`` seconds."""
    given = one.get("body")
    if given is None or not _has_input(given) or given["input"].get("secs", 0) <= longest:
        return one
    return {**one, "body": {**given, "input": {**given["input"], "secs": longest}}}


def _has_input(body: Any) -> bool:
    return isinstance(body, dict) and isinstance(body.get("input"), dict)
