"""The cost of a turn against the length of its conversation.

The turn that counts is ``POST /chat/stream``: what it sends is what the turn has made. ``POST
/chat`` is measured beside it; its answer has the whole conversation, so it grows with that.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from loadtests.bench.growth import message
from loadtests.growth.costs import Cost, Costs, mean_cost
from loadtests.measuring.figures import ratios, spread

Say = Callable[[str], None]


def _chat_stream(thread_id: str, number: int) -> tuple[str, str, bytes]:
    body = {"message": message(number), "thread_id": thread_id}
    return "POST", "/chat/stream", json.dumps(body).encode()


def _chat(thread_id: str, number: int) -> tuple[str, str, bytes]:
    body = {"message": message(number), "thread_id": thread_id}
    return "POST", "/chat", json.dumps(body).encode()


def _updates(thread_id: str, number: int) -> tuple[str, str, bytes]:
    body = {
        "assistant_id": "messages_state",
        "input": {"messages": [{"role": "user", "content": message(number)}]},
        "stream_mode": ["updates"],
    }
    return "POST", f"/threads/{thread_id}/runs/stream", json.dumps(body).encode()


ASKED: Mapping[str, Callable[[str, int], tuple[str, str, bytes]]] = {
    "chat": _chat_stream,
    "chat_whole_answer": _chat,
    "messages_state": _updates,
}


def turn_costs(
    costs: Costs,
    kind: str,
    threads: Mapping[int, Sequence[str]],
    *,
    rounds: int,
    turns: int,
    say: Say,
) -> dict[str, Any]:
    """By length: the cost of a turn, and its ratio to that of the shortest conversation.

    Rounds take all lengths in turn, so what disturbs the machine disturbs all.
    """
    ask = ASKED[kind]
    found: dict[int, list[Cost]] = {length: [] for length in threads}
    for length, ids in threads.items():
        # Each process reads a thread once; a connection of its own goes to either.
        for thread_id in ids:
            for _ in range(max(4 // len(ids), 1)):
                costs.of(1, partial(ask, thread_id))
        say(f"{kind}: {length} turns are there")
    for number in range(rounds):
        order: Sequence[int] = list(threads)
        for length in order if number % 2 else reversed(order):
            thread_id = threads[length][number % len(threads[length])]
            found[length].append(costs.of(turns, partial(ask, thread_id)))
        say(f"{kind}: round {number + 1} of {rounds}")
    shortest = [cost.cpu_ms for cost in found[min(found)]]
    return {
        "by_turns": {
            str(length): {
                **mean_cost(some),
                "ratio": spread(ratios([cost.cpu_ms for cost in some], shortest)),
            }
            for length, some in found.items()
        },
        "turns_each": turns,
        "rounds": rounds,
    }
