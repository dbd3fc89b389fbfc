"""Server-sent events as LangGraph clients read them.

Lines end with CRLF. The data is on one line, because the JavaScript SDK joins several data lines
without a newline. The id comes after the data.
"""

from functools import lru_cache

CONTENT_TYPE = "text/event-stream; charset=utf-8"
#: The end of each event and comment. It never occurs inside of one.
END = b"\r\n\r\n"
HEARTBEAT = b": heartbeat\r\n\r\n"
#: The last bytes of a stream when another process goes on with the run. They are no event: after
#: ``end`` or ``error``, clients would think that the run has ended.
RELEASED = b": the run goes on; connect again\r\nretry: 1000\r\n\r\n"


#: Characters that some clients treat as the end of a line, with their JSON escapes.
_LINE_ENDS = (
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
    (b"\xc2\x85", b"\\u0085"),
)
_NOT_IN_NAMES = dict.fromkeys(
    map(ord, "\0\n\v\f\r\x1c\x1d\x1e\x85\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}"), " "
)


@lru_cache(maxsize=1024)
def name_of(name: str) -> str:
    """The name of an event on one line. It may contain the name of a node."""
    return name.translate(_NOT_IN_NAMES).encode(errors="replace").decode()


def frame(name: str, data: bytes, event_id: int | str | None = None) -> bytes:
    """One event, ready to send.

    :param data: JSON text. Characters that a client could treat as the end of a line are escaped.
    """
    data = _on_one_line(data)
    if event_id is None:
        return b"%b%b\r\n\r\n" % (_before_data(name), data)
    return b"%b%b\r\nid: %b\r\n\r\n" % (_before_data(name), data, str(event_id).encode())


def data_frame(data: bytes) -> bytes:
    """A frame without a name, as clients of other APIs read it.

    :param data: as for :func:`frame`.
    """
    return b"data: %b\r\n\r\n" % _on_one_line(data)


def _on_one_line(data: bytes) -> bytes:
    # Most text is ASCII. This check takes a tenth of the time of the searches.
    if not data.isascii():
        for raw, escaped in _LINE_ENDS:
            data = data.replace(raw, escaped)
    return data


@lru_cache(maxsize=1024)
def _before_data(name: str) -> bytes:
    return b"event: %b\r\ndata: " % name.encode()


def data_of(frame: bytes) -> bytes:
    """The ``data`` of a frame."""
    begin = frame.index(_DATA) + len(_DATA)
    return frame[begin : frame.index(b"\r\n", begin)]


_DATA = b"\r\ndata: "
