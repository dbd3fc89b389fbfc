"""Server-sent events as LangGraph clients read them.

Line ends are CRLF and data stands on one line: the JavaScript SDK joins several data lines without
a newline (shared API reference, section 2.1). An id stands after the data.
"""

CONTENT_TYPE = "text/event-stream; charset=utf-8"
HEARTBEAT = b": heartbeat\r\n\r\n"
#: Closes the stream of a run that goes on elsewhere: neither ``end`` nor ``error``, which would
#: tell clients that the run is over.
RELEASED = b": the run goes on; connect again\r\nretry: 1000\r\n\r\n"


def frame(name: str, data: bytes, event_id: int | None = None) -> bytes:
    """One event, ready to send."""
    if event_id is None:
        return b"event: %b\r\ndata: %b\r\n\r\n" % (name.encode(), data)
    return b"event: %b\r\ndata: %b\r\nid: %d\r\n\r\n" % (name.encode(), data, event_id)


def data_of(frame: bytes) -> bytes:
    """What :func:`frame` was given as ``data``."""
    begin = frame.index(_DATA) + len(_DATA)
    return frame[begin : frame.index(b"\r\n", begin)]


_DATA = b"\r\ndata: "
