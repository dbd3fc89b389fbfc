"""A receiver of webhooks: HTTPS with an authority of its own, or HTTP; it keeps what it gets."""

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.tools import require_tool
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Authority:
    """Files of an authority, and of a certificate that it has signed."""

    ca_file: Path
    certificate: Path
    key: Path


def make_authority(folder: Path, names: str = "DNS:localhost,DNS:hooks.test") -> Authority:
    """
    :param names: ``subjectAltName`` of the certificate.
    """
    folder.mkdir(exist_ok=True)
    made = Authority(folder / "ca.pem", folder / "leaf.pem", folder / "leaf.key")
    ca_key, request, extensions = folder / "ca.key", folder / "leaf.csr", folder / "leaf.ext"
    extensions.write_text(f"subjectAltName={names}\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for arguments in (
        ["req", "-x509", *curve, "-keyout", ca_key, "-subj", "/CN=ours", "-out", made.ca_file],
        ["req", *curve, "-keyout", made.key, "-subj", "/CN=hook", "-out", request],
        ["x509", "-req", "-in", request, "-CA", made.ca_file, "-CAkey", ca_key, "-days", "2",
         "-CAcreateserial", "-extfile", extensions, "-out", made.certificate],
    ):  # fmt: skip
        subprocess.run(
            [require_tool("openssl"), *map(str, arguments)], check=True, capture_output=True
        )
    return made


@dataclass(frozen=True)
class Received:
    """:ivar headers: by lower-case name."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class HookReceiver(ThreadingHTTPServer):
    """``url`` is what a run names."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, authority: Authority | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _HookHandler)
        self.received: list[Received] = []
        #: The next answers; after them 204.
        self.statuses: list[int] = []
        self.headers: dict[str, str] = {}
        self.answer = b""
        self.in_flight = self.most_in_flight = 0
        self.guard = threading.Lock()
        #: While this is not set, requests get no answer.
        self.answering = threading.Event()
        self.answering.set()
        self.scheme = "http"
        if authority is not None:
            self.scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(authority.certificate, authority.key)
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}/hook"

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is none of this server's business."""

    def wait(self, count: int, *, seconds: float = 10.0) -> list[Received]:
        wait_until(lambda: len(self.received) >= count, seconds=seconds)
        return self.received


class _HookHandler(BaseHTTPRequestHandler):
    server: HookReceiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        body = self.rfile.read(int(self.headers["content-length"]))
        with server.guard:
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.received.append(Received(self.path, headers, body))
            status = server.statuses.pop(0) if server.statuses else 204
        server.answering.wait()
        with server.guard:
            server.in_flight -= 1
        self.send_response(status)
        for name, value in server.headers.items():
            self.send_header(name, value)
        answer = server.answer if status != 204 else b""
        if status != 204:
            self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def hook_receiver(authority: Authority | None = None) -> Iterator[HookReceiver]:
    server = HookReceiver(authority)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.answering.set()
        server.shutdown()
        server.server_close()
