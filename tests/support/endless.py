"""Requests that never end: how each begins, what follows for ever, and the refusal."""

HEAD = b"POST /body HTTP/1.1\r\nhost: localhost\r\n"

ENDLESS = {
    "url": (b"GET /", b"a", 414, "request_line_too_long"),
    "query": (b"GET /pid?", b"a=b&", 414, "request_line_too_long"),
    "method": (b"", b"A", 400, "bad_request"),
    "small headers": (HEAD, b"a: b\r\n", 431, "too_many_headers"),
    "one header": (HEAD + b"a: ", b"b", 431, "headers_too_large"),
    "one header's name": (HEAD, b"b", 431, "headers_too_large"),
    "lines before the request": (b"", b"\r\n", 431, "headers_too_large"),
    "trailers": (
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
        b"a: b\r\n",
        431,
        "too_many_headers",
    ),
    "one trailer": (
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\na: ",
        b"b",
        400,
        "bad_request",
    ),
    "chunk extension": (
        HEAD + b"transfer-encoding: chunked\r\n\r\n1;a=",
        b"b",
        400,
        "bad_request",
    ),
    "a header of an upgrade": (
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\na: ",
        b"b",
        431,
        "headers_too_large",
    ),
    "headers of an upgrade": (
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
        b"a: b\r\n",
        431,
        "too_many_headers",
    ),
}
