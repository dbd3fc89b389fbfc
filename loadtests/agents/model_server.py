"""A fake model that speaks OpenAI's chat completions, streamed, at a set pace, for almost no cost.

``python -m loadtests.agents.model_server --port 8900``. An answer begins a while after its request,
then brings tokens at an even pace (``Workload``). The first three answers of a conversation end in
a call of the first tool that the request offers; later ones are plain text. Tokens tell their time
(``loadtests.agents.tokens``).

All streams hang on one wheel with 20 slots for the time between two tokens. So the process wakes
up once for all streams of a slot, and writes bytes that are ready but for the token.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson
import uvloop

from loadtests.agents.tokens import clock, token_text
from loadtests.agents.workload import TOOL_CALLS, Workload
from loadtests.measuring.servers import ServerProcess, free_port, plain_environment, serving

#: Of an answer that calls a tool: tokens of the call's arguments.
_ARGUMENT_SHARE = 0.1
_SLOTS = 20
ROOT = Path(__file__).parents[2]

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_ALIVE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_REFUSED = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 57\r\n\r\n"
    b'{"error": {"message": "only streamed chat completions"} }'
)
_DONE = b"data: [DONE]\n\n"
_MARK = "@"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _frame(chunk_id: str, choices: list[Any], usage: Any = None) -> dict[str, Any]:
    return {
        "id": chunk_id,
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "fake-model",
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
        "choices": choices,
        "usage": usage,
    }


class Frames(NamedTuple):
    """What an answer writes around its tokens; a token stands between two halves of its event."""

    begin: bytes
    text: tuple[bytes, bytes]
    #: Before the first token of a call's arguments.
    opening: bytes
    arguments: tuple[bytes, bytes]
    end: bytes


class Answer:
    """One streamed answer. ``send`` writes its next token, and tells whether it was the last."""

    __slots__ = ("_asked", "_end", "_first", "_frames", "_number", "_split", "_write")

    def __init__(self, request: dict[str, Any], write: Any, tokens: int) -> None:
        self._asked = clock()
        self._write = write
        messages = request["messages"]
        turn = sum(message["role"] == "tool" for message in messages)
        tools: list[Any] = request.get("tools") or []
        calls = bool(tools) and turn < TOOL_CALLS
        self._first = self._number = turn * tokens
        self._end = self._first + tokens
        #: From this token on, tokens are arguments of the call.
        self._split = self._end - max(1, int(tokens * _ARGUMENT_SHARE)) if calls else self._end
        name = tools[0]["function"]["name"] if calls else ""
        usage = (request.get("stream_options") or {}).get("include_usage")
        used = {"prompt_tokens": len(messages), "completion_tokens": tokens} if usage else None
        self._frames = _frames(f"{turn}_{self._asked:08x}", name, used)

    def send(self) -> bool:
        number, frames = self._number, self._frames
        self._number = number + 1
        lead, asked = b"", None
        if number == self._first:
            lead, asked = frames.begin, self._asked
        before, after = frames.text
        if number >= self._split:
            before, after = frames.arguments
            if number == self._split:
                lead += frames.opening
        text = token_text(number, asked)
        size = len(before) + len(text) + len(after)
        data = b"%b%x\r\n%b%b%b\r\n" % (lead, size, before, text, after)
        if self._number == self._end:
            self._write(data + frames.end)
            return True
        self._write(data)
        return False


def _frames(answer_id: str, name: str, used: dict[str, int] | None) -> Frames:
    """
    :param name: of the tool that the answer calls; empty: none.
    :param used: tokens, if the client wants to know.
    """
    chunk_id = f"chatcmpl-{answer_id}"

    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: " + orjson.dumps(_frame(chunk_id, [choice])) + b"\n\n"

    def called(function: dict[str, str], **more: str) -> bytes:
        return event({"tool_calls": [{"index": 0, **more, "function": function}]})

    opening = closing = b""
    if name:
        begun = {"name": name, "arguments": '{"query":"'}
        opening = _chunk(called(begun, id=f"call_{answer_id}", type="function"))
        closing = called({"arguments": '"}'})
    end = closing + event({}, "tool_calls" if name else "stop")
    if used:
        usage = {**used, "total_tokens": sum(used.values())}
        end += b"data: " + orjson.dumps(_frame(chunk_id, [], usage)) + b"\n\n"
    return Frames(
        begin=_HEAD + _chunk(event({"role": "assistant", "content": "", "refusal": None})),
        text=_halves(event({"content": _MARK})),
        opening=opening,
        arguments=_halves(called({"arguments": _MARK})),
        end=_chunk(end + _DONE) + b"0\r\n\r\n",
    )


def _halves(event: bytes) -> tuple[bytes, bytes]:
    before, _, after = event.partition(_MARK.encode())
    return before, after


class Wheel:
    """Sends the next token of every answer, each in its own slot."""

    def __init__(self, token_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots: list[list[Answer]] = [[] for _ in range(_SLOTS)]
        self._slot_seconds = token_seconds / _SLOTS
        self._tick = 0
        self._began = self._loop.time()
        self._turning = False

    def begin(self, answer: Answer) -> None:
        """Send the first token now, the next ones from this slot."""
        if answer.send():
            return
        now = int((self._loop.time() - self._began) / self._slot_seconds)
        self._slots[now % _SLOTS].append(answer)
        if not self._turning:
            self._turning, self._tick = True, now
            self._wait()

    def _wait(self) -> None:
        """Until the next slot that holds an answer."""
        for step in range(1, _SLOTS + 1):
            if self._slots[(self._tick + step) % _SLOTS]:
                self._tick += step
                self._loop.call_at(self._began + self._tick * self._slot_seconds, self._turn)
                return
        self._turning = False

    def _turn(self) -> None:
        slot = self._tick % _SLOTS
        self._slots[slot] = [one for one in self._slots[slot] if not one.send()]
        self._wait()


class ModelConnection(asyncio.Protocol):
    """One keep-alive connection of a client of the model."""

    def __init__(self, wheel: Wheel, workload: Workload) -> None:
        self._wheel = wheel
        self._workload = workload
        self._got = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found:
            return
        _, known, value = head.lower().partition(b"\r\ncontent-length:")
        if len(body) < (int(value.partition(b"\r\n")[0]) if known else 0):
            return
        self._got = b""
        assert self._transport is not None
        if head.startswith(b"GET"):
            self._transport.write(_ALIVE)
        elif head.startswith(b"POST /v1/chat/completions") and (asked := _streamed(body)):
            answer = Answer(asked, self._send, self._workload.tokens_per_answer)
            loop = asyncio.get_running_loop()
            loop.call_later(self._workload.first_token_seconds, self._wheel.begin, answer)
        else:
            self._transport.write(_REFUSED)

    def _send(self, data: bytes) -> None:
        # The client may have left: the answer goes on, to nobody.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _streamed(body: bytes) -> dict[str, Any] | None:
    request: dict[str, Any] = orjson.loads(body)
    return request if request.get("stream") else None


@contextmanager
def model_server(folder: Path, workload: Workload | None = None) -> Iterator[ServerProcess]:
    """A fake model in a process of its own; ``model_settings`` tells where it is.

    :param folder: where its log goes.
    """
    pace, port = workload or Workload(), free_port()
    command = [sys.executable, "-m", "loadtests.agents.model_server", f"--port={port}"]
    command += [f"--tokens={pace.tokens_per_answer}", f"--token-seconds={pace.token_seconds}"]
    command += [f"--first-token-seconds={pace.first_token_seconds}"]
    with serving(
        "model", command, port, plain_environment(), folder=folder, ready="/", work_dir=ROOT
    ) as server:
        yield server


def model_settings(server: ServerProcess) -> dict[str, str]:
    """What a process of the agent needs to reach the model."""
    return {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "none"}


async def _serve(workload: Workload, port: int) -> None:
    wheel = Wheel(workload.token_seconds)
    server = await asyncio.get_running_loop().create_server(
        lambda: ModelConnection(wheel, workload), "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until the process is ended."""
    usual = Workload()
    parser = argparse.ArgumentParser(prog="python -m loadtests.agents.model_server")
    parser.add_argument("--port", type=int, default=8900)
    parser.add_argument("--tokens", type=int, default=usual.tokens_per_answer)
    parser.add_argument("--first-token-seconds", type=float, default=usual.first_token_seconds)
    parser.add_argument("--token-seconds", type=float, default=usual.token_seconds)
    given = parser.parse_args(arguments)
    workload = Workload(given.tokens, given.first_token_seconds, given.token_seconds)
    uvloop.run(_serve(workload, given.port))


if __name__ == "__main__":
    main()
