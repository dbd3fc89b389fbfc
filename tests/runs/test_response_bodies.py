"""A run's events as a client gets them: filtered, cut when nobody reads, alive when quiet."""

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

import pytest
import structlog

from headrace.event_settings import EventSettings
from headrace.events.channel import Channel
from headrace.events.event import Event, end_event
from headrace.events.json_encoding import PIECE_BYTES
from headrace.events.reader import ChannelReader, EventReader, FollowingStopped
from headrace.events.sse import HEARTBEAT
from headrace.following.followed_run import FollowedRun
from headrace.runs.response_bodies import event_frames
from tests.support.waiting import eventually


class Here:
    """A run of which only the channel is there."""

    run_id = UUID(int=7)
    thread_id = "t"

    def __init__(self, **settings: float) -> None:
        self.channel = Channel(EventSettings.model_validate(settings))

    def unsubscribe(self, reader: EventReader) -> None:
        self.channel.unsubscribe(cast("ChannelReader", reader))


async def frames(run: Here, reader: EventReader, **options: Any) -> list[bytes]:
    followed = cast("FollowedRun", run)
    return [one async for one in event_frames(followed, reader, heartbeat_seconds=9, **options)]


def names(chunks: Sequence[bytes]) -> list[str]:
    lines = b"".join(chunks).decode().splitlines()
    return [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]


async def test_only_events_of_the_modes_asked_for_are_told_and_the_end():
    run = Here()
    reader = run.channel.subscribe()
    for name in ("metadata", "values", "values|child:1", "messages/partial", "messages", "custom"):
        run.channel.publish(name, 1)
    run.channel.close(end_event(run.run_id, "success", None))
    told = await frames(run, reader, modes=["values", "messages-tuple"])
    assert names(told) == ["values", "values|child:1", "messages/partial", "messages", "end"]


async def test_a_client_that_does_not_read_is_cut_and_its_body_ends():
    run = Here(buffer_events=16, stall_seconds=0.05)
    reader = run.channel.subscribe()
    for number in range(17):
        run.channel.publish("values", number)
    with structlog.testing.capture_logs() as logs:
        await eventually(lambda: not run.channel.wanted)
        assert await frames(run, reader) == []
    assert [(one["event"], one["reason"]) for one in logs] == [("slow_client_cut", "stalled")]
    assert not run.channel.wanted


async def test_one_that_is_cut_in_the_midst_of_an_event_gets_no_whole_body():
    run = Here(buffer_bytes=65536, stall_seconds=0.05)
    followed = cast("FollowedRun", run)
    stream = event_frames(followed, run.channel.subscribe(), heartbeat_seconds=9)
    run.channel.publish("values", "x" * 600_000)
    assert len(await anext(stream)) == PIECE_BYTES
    await eventually(lambda: not run.channel.wanted)
    with pytest.raises(FollowingStopped):
        await anext(stream)


async def test_large_events_go_in_pieces_that_make_up_the_whole():
    run = Here()
    reader = run.channel.subscribe()
    texts = ["a", "b" * 600_000, "c" * 200_000, "d" * 200_000, "e"]
    for text in texts:
        run.channel.publish("values", text)
    run.channel.close(end_event(run.run_id, "success", None))
    chunks = await frames(run, reader)
    assert max(map(len, chunks)) <= PIECE_BYTES
    sent = b"".join(chunks).split(b"\r\n\r\n")[:-2]
    assert sent == [f'event: values\r\ndata: "{text}"'.encode() for text in texts]


async def test_a_quiet_stream_is_kept_alive():
    run = Here()
    followed = cast("FollowedRun", run)
    stream = event_frames(followed, run.channel.subscribe(), heartbeat_seconds=0.01)
    assert await anext(stream) == HEARTBEAT
    run.channel.publish("values", 1)
    assert await anext(stream) == Event.of(1, "values", 1, resumable=False).frame
    await stream.aclose()
