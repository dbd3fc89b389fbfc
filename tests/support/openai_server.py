"""A local HTTP server that speaks OpenAI's chat completions protocol, streamed and whole.

Its answers are deterministic: ``echo: <last user text> (<n> messages)``, where system messages do
not count. If the request offers tools, the answer to a user's text calls the first tool. It keeps
the requests it got.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class OpenAIServer(ThreadingHTTPServer):
    """``url`` is what OPENAI_BASE_URL wants."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        #: What an answer says that it has used; None: a token for each word.
        self.usage: dict[str, Any] | None = None
        #: Statuses of the next answers; without one, an answer is 200.
        self.failures: list[int] = []
        #: A stream says its first word, then waits for this.
        self.go_on = threading.Event()
        self.go_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: OpenAIServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.server.keys.append(self.headers.get("Authorization", ""))
        if self.path != "/v1/chat/completions":
            self.send_error(404)
        elif self.server.failures:
            self._fail(self.server.failures.pop(0))
        elif body.get("stream"):
            self._stream(body)
        else:
            self._whole(body)

    def _whole(self, body: dict[str, Any]) -> None:
        message: dict[str, Any] = {"role": "assistant", "content": _answer(body)}
        if calls := _tool_calls(body):
            message = {"role": "assistant", "content": None, "tool_calls": calls}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = self.server.usage or {
            "prompt_tokens": 1,
            "completion_tokens": 1,
            "total_tokens": 2,
        }
        self._reply(
            "application/json",
            json.dumps(
                {**_head(body, "chat.completion"), "choices": [choice], "usage": usage}
            ).encode(),
        )

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        head = _head(body, "chat.completion.chunk")
        words = _answer(body).split(" ")
        deltas = [{"role": "assistant", "content": ""}]
        deltas += [{"content": (" " if n else "") + word} for n, word in enumerate(words)]
        for delta in deltas:
            self._event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            if delta.get("content"):
                self.server.go_on.wait(30)
        self._event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = self.server.usage or {
                "prompt_tokens": 1,
                "completion_tokens": len(words),
                "total_tokens": 1,
            }
            self._event({**head, "choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _fail(self, status: int) -> None:
        error = {"message": "asked to fail", "type": "server_error"}
        self._reply("application/json", json.dumps({"error": error}).encode(), status)

    def _event(self, event: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def _reply(self, media_type: str, data: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Not to stderr."""


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1700000000, "model": body["model"]}


def _tool_calls(body: dict[str, Any]) -> list[dict[str, Any]]:
    if not body.get("tools") or body["messages"][-1]["role"] == "tool":
        return []
    function = {"name": body["tools"][0]["function"]["name"], "arguments": "{}"}
    return [{"id": "call_1", "type": "function", "function": function}]


def _answer(body: dict[str, Any]) -> str:
    messages = [message for message in body["messages"] if message["role"] != "system"]
    return f"echo: {messages[-1]['content']} ({len(messages)} messages)"


@contextmanager
def openai_server() -> Iterator[OpenAIServer]:
    """Serves in a thread until the context is left."""
    with OpenAIServer() as server:
        thread = threading.Thread(target=server.serve_forever, name="openai-server")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
