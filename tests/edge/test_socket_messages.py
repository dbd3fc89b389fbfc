"""The messages of a WebSocket, measured by the heads of their frames."""

import pytest
from websockets.frames import Frame, Opcode

from headrace.edge.socket_transport import FrameMeter


def sent(size: int, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    """A frame as a client sends it."""
    return Frame(opcode, b"x" * size, fin=fin).serialize(mask=True)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
@pytest.mark.parametrize("step", [1, 7, 1_000_000])
def test_a_message_is_measured_from_its_head_on(size, step):
    meter, data = FrameMeter(), sent(size)
    whole = 0
    for at in range(0, len(data), step):
        assert whole == 0
        whole += meter.feed(data[at : at + step])
        head = len(data) - size
        if at + step >= head and not whole:
            assert meter.announced_bytes == size
    assert (whole, meter.announced_bytes) == (1, 0)


def test_the_frames_of_a_message_add_up_and_pings_between_them_do_not_count():
    meter = FrameMeter()
    meter.feed(sent(100, fin=False))
    meter.feed(sent(50, Opcode.CONT, fin=False))
    meter.feed(sent(20, Opcode.PING))
    assert meter.announced_bytes == 150
    assert meter.feed(sent(30, Opcode.CONT)) == 1
    assert meter.announced_bytes == 0


def test_several_messages_may_come_at_once():
    meter = FrameMeter()
    assert meter.feed(sent(10) + sent(0, Opcode.PONG) + sent(70_000) + sent(90_000)[:50]) == 2
    assert meter.announced_bytes == 90_000
