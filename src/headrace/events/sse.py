"""Server-sent events as LangGraph clients read them.

Line ends are CRLF, and data stands on one line: the JavaScript SDK joins several data lines without
a newline. The id stands after the data.
"""

CONTENT_TYPE = "text/event-stream; charset=utf-8"
#: Ends each event, and stands nowhere else.
END = b"\r\n\r\n"
HEARTBEAT = b": heartbeat\r\n\r\n"
#: Closes the stream of a run that another process continues. It is neither ``end`` nor ``error``,
#: which would tell clients that the run is over.
RELEASED = b": the run goes on; connect again\r\nretry: 1000\r\n\r\n"


#: Characters that some clients take for the end of a line, and their escapes in JSON.
_LINE_ENDS = (
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
    (b"\xc2\x85", b"\\u0085"),
)
_NOT_IN_NAMES = dict.fromkeys(
    map(ord, "\0\n\v\f\r\x1c\x1d\x1e\x85\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}"), " "
)


def name_of(name: str) -> str:
    """An event's name on one line; it may hold the name of a node."""
    return name.translate(_NOT_IN_NAMES).encode(errors="replace").decode()


def frame(name: str, data: bytes, event_id: int | str | None = None) -> bytes:
    """One event, ready to send.

    :param data: JSON text. Nothing is left raw in it that a client could take for a line's end.
    """
    # Most text is ASCII, and to look for that costs a tenth of the searches.
    if not data.isascii():
        for raw, escaped in _LINE_ENDS:
            data = data.replace(raw, escaped)
    if event_id is None:
        return b"event: %b\r\ndata: %b\r\n\r\n" % (name.encode(), data)
    return b"event: %b\r\ndata: %b\r\nid: %b\r\n\r\n" % (
        name.encode(),
        data,
        str(event_id).encode(),
    )


def data_of(frame: bytes) -> bytes:
    """What :func:`frame` was given as ``data``."""
    begin = frame.index(_DATA) + len(_DATA)
    return frame[begin : frame.index(b"\r\n", begin)]


_DATA = b"\r\ndata: "
