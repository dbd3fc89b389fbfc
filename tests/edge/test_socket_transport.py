"""What a client sends on a WebSocket goes on frame by frame."""

import asyncio

import pytest
from websockets.frames import Frame, Opcode

from headrace.edge.callers import address_of
from headrace.edge.rates import Rates
from headrace.edge.socket_transport import Hold, SocketTransport
from tests.edge.test_socket_messages import sent


class Wire(asyncio.Transport):
    """The connection below, and what was done to it."""

    def __init__(self):
        super().__init__()
        self.reading, self.unsent, self.closing = True, 0, False

    def set_protocol(self, protocol):
        self.protocol = protocol

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def write(self, data):
        self.unsent += len(data)

    def get_write_buffer_size(self):
        return self.unsent

    def set_write_buffer_limits(self, high=None, low=None): ...

    def can_write_eof(self):
        return True

    def write_eof(self): ...

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    def abort(self):
        self.closing = True


class Frames(asyncio.Protocol):
    def __init__(self):
        self.frames: list[bytes] = []

    def data_received(self, data):
        self.frames.append(data)


@pytest.fixture
async def wire():
    return Wire()


@pytest.fixture
async def frames(wire):
    return Frames()


def fed(wire, frames, rates=None) -> SocketTransport:
    transport = SocketTransport(wire, rates or Rates(0.0, 0.0), "someone")
    transport.set_protocol(frames)
    return transport


async def turns(number=10):
    for _ in range(number):
        await asyncio.sleep(0)


async def test_frames_wait_until_the_socket_is_open(wire, frames):
    transport = fed(wire, frames)
    wire.protocol.data_received(sent(3) + sent(4))
    await turns()
    assert frames.frames == []
    assert not wire.reading
    transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    await turns()
    assert list(map(len, frames.frames)) == [len(sent(3)), len(sent(4))]
    assert wire.reading


async def test_each_message_waits_until_the_app_has_taken_the_one_before(wire, frames):
    transport = fed(wire, frames)
    transport.let_go(Hold.OPENING)

    def take(data):
        frames.frames.append(data)
        transport.pause_reading()

    frames.data_received = take
    wire.protocol.data_received(sent(0) * 1000)
    await turns()
    assert len(frames.frames) == 1
    assert not wire.reading
    for number in range(2, 50):
        transport.resume_reading()
        await turns(1)
        assert len(frames.frames) == number


async def test_nothing_is_read_while_the_client_does_not_read(wire, frames):
    transport = fed(wire, frames)
    transport.let_go(Hold.OPENING)

    def answer(data):
        frames.frames.append(data)
        transport.write(data)
        if wire.unsent > 100:
            wire.protocol.pause_writing()

    frames.data_received = answer
    frames.pause_writing = frames.resume_writing = lambda: None
    wire.protocol.data_received(sent(20, Opcode.PING) * 1000)
    await turns(100)
    assert wire.unsent < 150
    assert not wire.reading
    wire.unsent = 0
    wire.protocol.resume_writing()
    await turns()
    assert wire.unsent > 100


async def test_a_turn_of_the_loop_takes_a_few_frames(wire, frames):
    transport = fed(wire, frames)
    wire.protocol.data_received(sent(0, Opcode.PING) * 100)
    transport.let_go(Hold.OPENING)
    await turns(1)
    assert 0 < len(frames.frames) < 50
    await turns(20)
    assert len(frames.frames) == 100


async def test_a_caller_that_sends_too_fast_is_read_slower(wire, frames):
    transport = fed(wire, frames, Rates(100.0, 0.1))
    transport.let_go(Hold.OPENING)
    wire.protocol.data_received(sent(0, Opcode.PING) * 30)
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(10):
        while len(frames.frames) < 30:
            await asyncio.sleep(0.01)
    assert asyncio.get_running_loop().time() - began > 0.15


@pytest.mark.parametrize("step", [1, 5, 300])
async def test_a_frame_may_come_in_pieces(wire, frames, step):
    transport = fed(wire, frames)
    transport.let_go(Hold.OPENING)
    data = sent(200) + Frame(Opcode.TEXT, b"", fin=True).serialize(mask=True) + sent(130)
    for at in range(0, len(data), step):
        wire.protocol.data_received(data[at : at + step])
        await turns(2)
    assert b"".join(frames.frames) == data
    assert transport.take_whole() == 3


@pytest.mark.parametrize(
    ("client", "name"),
    [
        (("192.0.2.7", 1), "address 192.0.2.7"),
        (("2001:db8:1:2:3::4%eth0", 1), "address 2001:db8:1:2::/64"),
        (("::ffff:192.0.2.7", 1), "address 192.0.2.7"),
        (("testclient", 1), "address testclient"),
        (None, "address unknown"),
    ],
)
def test_an_address_names_a_caller(client, name):
    assert address_of(client) == name
