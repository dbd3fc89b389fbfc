"""Requests whose end two servers in a row may find at different places, each with another request
behind it.
"""

#: Requests whose end two servers in a row may find at different places.
SMUGGLED = {
    "length and chunks": b"content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"transfer-encoding: chunked\r\ncontent-length: 6\r\n\r\n0\r\n\r\n",
    "two lengths": b"content-length: 1\r\ncontent-length: 5\r\n\r\nx",
    "a list of lengths": b"content-length: 1, 1\r\n\r\nx",
    "a signed length": b"content-length: +1\r\n\r\nx",
    "a negative length": b"content-length: -1\r\n\r\nx",
    "a length in hex": b"content-length: 0x1\r\n\r\nx",
    "a huge length": b"content-length: 18446744073709551617\r\n\r\nx",
    "an unknown coding": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"content-length : 1\r\n\r\nx",
    "a folded header": b"a: b\r\n content-length: 1\r\n\r\n",
    "a line feed in a header": b"a: b\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a carriage return in a header": b"a: b\rcontent-length: 1\r\n\r\nx",
    "a chunk's size with a sign": b"transfer-encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n",
    "a chunk without its end": b"transfer-encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n",
    "a chunk of any size": b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nx\r\n",
    "the coding twice": b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n"
    b"0\r\n\r\n",
    "a coding behind a vertical tab": b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "a folded coding": b"content-length: 5\r\ntransfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a coding in a quoted name": b'"transfer-encoding": chunked\r\n\r\n0\r\n\r\n',
    "line feeds within a chunk's head": b"transfer-encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
    "a line feed in a chunk's extension": b"transfer-encoding: chunked\r\n\r\n1;a\nx\r\n0\r\n\r\n",
    "a chunk's size in hex with 0x": b"transfer-encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
    "a space before a chunk's size": b"transfer-encoding: chunked\r\n\r\n 1\r\nx\r\n0\r\n\r\n",
    "a NUL in a header": b"a: b\0\r\ncontent-length: 1\r\n\r\nx",
    "a header without a colon": b"transfer-encoding\r\n\r\n",
}


#: What hides behind each of them.
_HIDDEN = b"GET /ok?smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"


def smuggled(case: str, path: str) -> bytes:
    """The bytes of a case, as a POST to ``path``."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\n".encode()
    return head + SMUGGLED[case] + _HIDDEN
