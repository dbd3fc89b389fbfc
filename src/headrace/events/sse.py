"""Server-sent events as LangGraph clients read them.

Line ends are CRLF and data stands on one line: the JavaScript SDK joins several data lines without
a newline (shared API reference, section 2.1).
"""

from typing import Any

from headrace.events.encoding import encode_json

CONTENT_TYPE = "text/event-stream; charset=utf-8"
HEARTBEAT = b": heartbeat\r\n\r\n"


def frame(event: str, data: Any) -> bytes:
    """One event, ready to send. Its name may hold a node's name: no line end may pass in it."""
    name = event.replace("\r", " ").replace("\n", " ").encode(errors="replace")
    return b"event: %b\r\ndata: %b\r\n\r\n" % (name, encode_json(data))
