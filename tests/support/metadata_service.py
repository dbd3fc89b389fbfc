"""A metadata service of a cloud: it gives tokens of Google and Azure, in their own protocols."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Metadata:
    """What a fake of a metadata service answers, and what it was asked."""

    def __init__(self) -> None:
        self.token = "first-t0ken"
        self.seconds = 3600
        self.asked: list[str] = []
        self.url = ""


@contextmanager
def metadata_service() -> Iterator[Metadata]:
    told = Metadata()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append(self.path)
            body: Any = {"access_token": told.token, "token_type": "Bearer"}
            if "/token" in self.path and "service-accounts" in self.path:
                assert self.headers["Metadata-Flavor"] == "Google"
                body["expires_in"] = told.seconds
            elif self.path.startswith("/msi/token"):
                assert self.headers["X-IDENTITY-HEADER"] == "here"
                body |= {"expires_on": str(int(time.time()) + told.seconds), "resource": "r"}
            elif "service-accounts" in self.path:
                body = {"email": "app@project.iam", "scopes": [], "aliases": ["default"]}
            else:
                body = "project"
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(200)
            kind = "application/text" if isinstance(body, str) else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
