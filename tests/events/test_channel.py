"""Readers of a run: in order, to the end, and cut when they fall behind."""

import asyncio

import pytest

from headrace.events.channel import Channel, Cut


def channel(max_frames: int = 10, max_bytes: int = 1000) -> Channel:
    return Channel(max_frames=max_frames, max_bytes=max_bytes)


async def test_a_reader_gets_everything_since_it_subscribed_then_the_end():
    run = channel()
    run.publish(b"before")
    reader = run.subscribe()
    run.publish(b"a")
    run.publish(b"b")
    run.close()
    assert await reader.read(1) == b"ab"
    assert await reader.read(1) is None


async def test_a_quiet_channel_says_so_after_the_timeout():
    assert await channel().subscribe().read(0.01) == b""


async def test_a_waiting_reader_wakes_up():
    run = channel()
    reader = run.subscribe()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        reading = group.create_task(reader.read(5))
        await asyncio.sleep(0)
        run.publish(b"now")
    assert reading.result() == b"now"


async def test_a_slow_reader_is_cut_and_others_are_not():
    run = channel(max_frames=2)
    slow, quick = run.subscribe(), run.subscribe()
    got = b""
    for _ in range(3):
        run.publish(b"x")
        got += await quick.read(1) or b""
    assert got == b"xxx"
    with pytest.raises(Cut):
        await slow.read(1)


async def test_bytes_are_bounded_too_but_one_large_frame_passes():
    run = channel(max_bytes=10)
    reader = run.subscribe()
    run.publish(b"x" * 50)
    assert await reader.read(1) == b"x" * 50
    run.publish(b"x" * 6)
    run.publish(b"x" * 6)
    with pytest.raises(Cut):
        await reader.read(1)


async def test_who_comes_after_the_end_gets_the_end():
    run = channel()
    run.close()
    assert await run.subscribe().read(1) is None
