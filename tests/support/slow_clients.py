"""Clients of streams on sockets of their own, which read as fast as they are told to."""

import json
import re
import socket
import threading
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

_PIECE = 256 * 1024
#: Small, so that the kernel takes little of what the client does not read.
_RECEIVE_BUFFER = 64 * 1024
_NAME = re.compile(rb"event: ([^\r]+)\r\n")


class StreamClient(threading.Thread):
    """Sends one request and reads its stream.

    :param rate: bytes a second; 0 reads nothing after the head; None reads at once.
    """

    def __init__(
        self, url: str, path: str, body: dict[str, Any] | None = None, *, rate: float | None = None
    ) -> None:
        super().__init__(daemon=True)
        self._address = urlsplit(url)
        content = b"" if body is None else json.dumps(body).encode()
        method = "GET" if body is None else "POST"
        self._request = (
            f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\n\r\n"
        ).encode() + content
        self._rate = rate
        self._stopping = threading.Event()
        #: Of its thread's runs, where it made one.
        self.path = ""
        self.head = threading.Event()
        self.headers = ""
        self.received = 0
        self.events: list[str] = []
        #: The body was completed, or broke off; None while neither.
        self.whole: bool | None = None
        self.seconds = 0.0

    def run(self) -> None:
        began_at = time.monotonic()
        with socket.socket() as connection, suppress(OSError):
            if self._rate is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            connection.connect((self._address.hostname, self._address.port))
            connection.sendall(self._request)
            self._read(connection)
        self.seconds = time.monotonic() - began_at
        if self.whole is None and not self._stopping.is_set():
            self.whole = False

    def stop(self) -> None:
        self._stopping.set()
        self.join(10)

    @property
    def run_id(self) -> str:
        """From the head of the answer."""
        assert self.head.wait(30)
        found = re.search(r"content-location: \S*/runs/([^/\s]+)", self.headers, re.IGNORECASE)
        assert found, self.headers
        return found[1]

    def _read(self, connection: socket.socket) -> None:
        tail = b""
        while b"\r\n\r\n" not in tail:
            tail += connection.recv(1)
        self.headers, tail = tail.decode(), b""
        self.head.set()
        if self._rate == 0:
            self._stopping.wait()
            return
        connection.settimeout(0.2)
        began_at = time.monotonic()
        while not self._stopping.is_set():
            try:
                data = connection.recv(_PIECE)
            except TimeoutError:
                continue
            if not data:
                return
            self.received += len(data)
            text = tail + data
            self.events += [name.decode() for name in _NAME.findall(text)]
            if text.endswith(b"0\r\n\r\n"):
                self.whole = True
                return
            # What may be the beginning of a name.
            tail = text[-200:].rpartition(b"\n")[2]
            if self._rate:
                ahead = self.received / self._rate - (time.monotonic() - began_at)
                if ahead > 0:
                    self._stopping.wait(ahead)
