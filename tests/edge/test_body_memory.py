"""The memory for large bodies: what is counted, who waits, who is refused."""

import asyncio
import json
from typing import Any

import pytest

from headrace.edge.body_memory import PIECE_BYTES, BodyMemory
from headrace.edge.requests import JSONRequest
from headrace.unavailable_errors import BodiesFull
from tests.support.waiting import eventually

MAX_PIECES = 8


class Memory(BodyMemory):
    """Of a few pieces, and what was refused."""

    def __init__(self, pieces: int, *, wait_seconds: float = 5.0, share: float = 1.0) -> None:
        self.refused: list[str] = []
        super().__init__(
            total_bytes=pieces * PIECE_BYTES,
            wait_seconds=wait_seconds,
            share=share,
            count_refused=self.refused.append,
        )

    @property
    def pieces(self) -> float:
        return self.figures().bytes / PIECE_BYTES


class Client:
    """Sends a body piece by piece; the next one once it is read, as a socket does."""

    def __init__(self, memory: BodyMemory, caller: str = "") -> None:
        self.sent: asyncio.Queue[dict[str, object]] = asyncio.Queue(maxsize=1)
        scope = {"type": "http", "headers": [], "method": "POST"}
        self.request = JSONRequest(scope, self.sent.get)
        self.request.body_memory = memory
        self.request.caller = caller
        self.request.max_body_bytes = (MAX_PIECES + 1) * PIECE_BYTES

    async def send(self, size_bytes: int, *, more: bool = True) -> None:
        message = {"type": "http.request", "body": b"x" * size_bytes, "more_body": more}
        await self.sent.put(message)

    async def send_all(self, pieces: int, *, pause_seconds: float = 0.0) -> None:
        for number in range(pieces):
            await self.send(PIECE_BYTES, more=number < pieces - 1)
            await asyncio.sleep(pause_seconds)

    async def handled(self, seconds: float = 0.0) -> int:
        """The length of the body, once it came and was worked on."""
        try:
            length = len(await self.request.body())
            await asyncio.sleep(seconds)
            return length
        finally:
            self.request.release()


async def stalled(memory: Memory, pieces: int, caller: str = "") -> asyncio.Task[int]:
    """A body that has come so far, and comes no further."""
    client, before = Client(memory, caller), memory.pieces
    handling = asyncio.create_task(client.handled())
    for _ in range(pieces):
        await client.send(PIECE_BYTES)
    await eventually(lambda: memory.pieces == before + pieces or handling.done())
    return handling


async def end(*handling: asyncio.Task[Any]) -> None:
    for one in handling:
        one.cancel()
    await asyncio.gather(*handling, return_exceptions=True)


async def test_what_has_come_is_counted_until_the_request_is_handled():
    memory = Memory(8)
    client = Client(memory)
    handling = asyncio.create_task(client.handled(0.05))
    await client.send(PIECE_BYTES)
    await client.send(1)
    await eventually(lambda: memory.pieces == 2)
    await client.send(PIECE_BYTES - 1, more=False)
    assert (await handling, memory.pieces) == (2 * PIECE_BYTES, 0)


async def test_small_bodies_neither_count_nor_wait():
    memory = Memory(2)
    filling = await stalled(memory, 2)
    await asyncio.wait_for(asyncio.gather(*(small(memory) for _ in range(20))), 3)
    assert memory.pieces == 2
    await end(filling)


async def small(memory: Memory) -> None:
    client = Client(memory)
    async with asyncio.TaskGroup() as group:
        group.create_task(client.send(PIECE_BYTES, more=False))
        assert await client.handled() == PIECE_BYTES


@pytest.mark.parametrize("callers", [1, 3])
@pytest.mark.parametrize("pieces", [1, 4, 12])
async def test_bodies_that_together_are_too_large_are_all_completed(pieces, callers):
    """Each holds a part and wants more; what is held stays within the bound and one body."""
    memory = Memory(pieces, share=1.0 if callers == 1 else 0.75)
    most = 0.0

    async def one(number: int) -> None:
        nonlocal most
        client = Client(memory, str(number % callers))
        async with asyncio.TaskGroup() as group:
            group.create_task(client.send_all(MAX_PIECES))
            handling = group.create_task(client.handled(0.002))
            while not handling.done():
                most = max(most, memory.pieces)
                await asyncio.sleep(0.001)
        assert handling.result() == MAX_PIECES * PIECE_BYTES

    async with asyncio.timeout(4), asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(one(number))
    assert pieces <= most <= pieces + MAX_PIECES
    assert (memory.pieces, memory.figures().waiting, memory.refused) == (0, 0, [])


# It has a bound on time.
@pytest.mark.alone
async def test_a_body_waits_a_bounded_time_in_all():
    memory = Memory(4, wait_seconds=0.2)
    first = Client(memory)
    handling = asyncio.create_task(first.handled(2))
    await first.send_all(4)
    await eventually(lambda: memory.pieces == 4)
    second = Client(memory)
    sending = asyncio.create_task(second.send_all(4))
    # It is the oldest that still comes: one body may go beyond the bound.
    third = Client(memory)
    handled_second = asyncio.create_task(second.handled(2))
    await eventually(lambda: memory.pieces == 8)
    sending_third = asyncio.create_task(third.send_all(4))
    with pytest.raises(BodiesFull):
        await third.handled()
    assert (memory.refused, memory.pieces, memory.figures().waiting) == (["no_room"], 8, 0)
    sending_third.cancel()
    await sending
    await end(handling, handled_second)
    assert memory.pieces == 0


# It has a bound on time.
@pytest.mark.alone
async def test_a_body_that_does_not_come_is_given_up_while_others_wait():
    memory = Memory(4, wait_seconds=1.0)
    slow = [await stalled(memory, 2), await stalled(memory, 2)]
    await asyncio.sleep(1.1)
    assert not any(one.done() for one in slow), "nobody waits"
    client = Client(memory)
    async with asyncio.timeout(0.9), asyncio.TaskGroup() as group:
        group.create_task(client.send_all(3))
        assert await client.handled() == 3 * PIECE_BYTES
    for one in slow:
        with pytest.raises(BodiesFull):
            await one
    assert (memory.refused, memory.pieces) == (["stalled"] * 2, 0)


async def test_a_caller_leaves_memory_to_others():
    memory = Memory(16, share=0.75)
    slow = [await stalled(memory, 4, "a") for _ in range(3)]
    waits = Client(memory, "a")
    waiting = asyncio.create_task(waits.handled())
    sending = asyncio.create_task(waits.send_all(4))
    await eventually(lambda: memory.figures().waiting == 1)
    other = Client(memory, "b")
    async with asyncio.timeout(3), asyncio.TaskGroup() as group:
        group.create_task(other.send_all(3))
        assert await other.handled() == 3 * PIECE_BYTES
    assert not waiting.done()
    await end(*slow)
    assert await waiting == 4 * PIECE_BYTES
    await sending
    assert memory.pieces == 0


# It has a bound on time.
@pytest.mark.alone
async def test_what_is_parsed_counts_and_waits_too():
    body = json.dumps({"a": [[]] * 50_000}).encode()
    memory = Memory(128, wait_seconds=0.3)
    made = []
    for _ in range(3):
        client = Client(memory)
        client.request.max_body_bytes = len(body)
        client.sent.put_nowait({"type": "http.request", "body": body, "more_body": False})
        made.append(client.request)
    first, second, third = made
    assert len((await first.json())["a"]) == 50_000
    with pytest.raises(BodiesFull):
        await second.json()
    second.release()
    parsing = asyncio.create_task(third.json())
    await eventually(lambda: memory.figures().waiting == 1)
    first.release()
    assert len((await parsing)["a"]) == 50_000
    third.release()
    assert (memory.pieces, memory.refused) == (0, ["no_room"])


async def test_a_client_that_leaves_leaves_its_memory():
    memory = Memory(4)
    holding = await stalled(memory, 4)
    behind = [Client(memory) for _ in range(3)]
    waiting = [asyncio.create_task(client.handled()) for client in behind]
    sending = [asyncio.create_task(client.send_all(3)) for client in behind]
    await eventually(lambda: memory.figures().waiting == 3)
    await end(waiting[0], holding)
    assert await asyncio.gather(*waiting[1:]) == [3 * PIECE_BYTES] * 2
    await end(*sending)
    assert (memory.pieces, memory.figures().waiting) == (0, 0)


async def test_what_one_caller_has_parsed_is_not_in_the_way_of_another():
    memory = Memory(8, share=0.75)
    # More than one may have: it counts with that.
    first, second = memory.body("a"), memory.body("a")
    await first.admit_values(100 * PIECE_BYTES)
    waiting = asyncio.create_task(second.admit_values(PIECE_BYTES))
    await eventually(lambda: memory.figures().waiting == 1)
    other = memory.body("b")
    async with asyncio.timeout(3):
        await other.admit_values(PIECE_BYTES)
    assert memory.pieces == 7
    first.release()
    await waiting
    second.release()
    other.release()
    assert (memory.figures().bytes, memory.figures().waiting, memory.refused) == (0, 0, [])
