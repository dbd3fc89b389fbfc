"""What clients and nginx do with an answer that a server refuses or cuts: the table of restarts.md.

The server here misbehaves once; then it answers. The table holds as long as these tests do: a new
release of a client may change it.
"""

import asyncio
import json
import subprocess
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import requests
from langgraph_sdk import get_client
from langgraph_sdk.errors import APIError

from tests.rolling.proxy import Nginx
from tests.support.processes import free_port
from tests.support.tools import require_tool

pytestmark = pytest.mark.acceptance

_RUN = "/threads/t/runs/r"
_CLIENTS = Path(__file__).parents[2] / ".tools" / "clients"

#: What the server does with the first request: answer 503, close without an answer, or close within
#: the answer.
REFUSED, BEFORE, WITHIN = "503", "cut before", "cut within"


class CuttingServer:
    """Misbehaves once; ``asked`` are the requests that it has got."""

    def __init__(self, port: int, trouble: str) -> None:
        self.port = port
        self.asked: list[str] = []
        self._trouble = trouble

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        for line in head.splitlines():
            if line.lower().startswith("content-length:"):
                await reader.readexactly(int(line.split(":")[1]))
        method, path = head.split(" ", 2)[:2]
        self.asked.append(f"{method} {path}")
        streams = path.endswith("/stream")
        if len(self.asked) > 1:
            writer.write(_whole(_END if streams else b'{"said": "hi"}', streams=streams))
        elif self._trouble == REFUSED:
            writer.write(_whole(b'{"detail": "later"}', status=503))
        elif self._trouble == WITHIN:
            writer.write(_head(200, streams=streams) + b"Transfer-Encoding: chunked\r\n\r\n")
            part = _EVENT if streams else b"\n"
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            await writer.drain()
            await asyncio.sleep(0.1)
            return False
        else:
            return False
        await writer.drain()
        return True


_EVENT = b"id: 1\nevent: custom\ndata: 1\n\n"
_END = b"id: 2\nevent: end\ndata: null\n\n"


def _head(status: int, *, streams: bool) -> bytes:
    kind, last = ("text/event-stream", "stream") if streams else ("application/json", "join")
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n"
    return (head + (f"Location: {_RUN}/{last}\r\n" if status == 200 else "")).encode()


def _whole(body: bytes, *, status: int = 200, streams: bool = False) -> bytes:
    return _head(status, streams=streams) + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


@asynccontextmanager
async def cutting(trouble: str) -> AsyncIterator[CuttingServer]:
    server = CuttingServer(free_port(), trouble)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", server.port)
    try:
        yield server
    finally:
        listening.close()


async def with_requests(url: str) -> object:
    def post() -> object:
        answer = requests.post(f"{url}/runs/wait", json={}, timeout=20)
        answer.raise_for_status()
        return answer.json()

    return await asyncio.to_thread(post)


async def with_httpx(url: str) -> object:
    async with httpx.AsyncClient(timeout=20) as client:
        answer = await client.post(f"{url}/runs/wait", json={})
        answer.raise_for_status()
        return answer.json()


async def with_the_sdk(url: str) -> object:
    sdk = get_client(url=url)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return await sdk.runs.wait("t", "agent", input={})
    finally:
        await sdk.aclose()


async def streaming_with_the_sdk(url: str) -> object:
    sdk = get_client(url=url)
    try:
        parts = sdk.runs.stream("t", "agent", input={}, stream_resumable=True)
        return [part.event async for part in parts]
    finally:
        await sdk.aclose()


async def with_javascript(url: str) -> object:
    return await _in_node(url, "return await client.runs.wait('t', 'agent', { input: {} });")


async def streaming_with_javascript(url: str) -> object:
    return await _in_node(
        url,
        "const events = [];"
        "const options = { input: {}, streamResumable: true };"
        "for await (const part of client.runs.stream('t', 'agent', options))"
        " events.push(part.event);"
        "return events;",
    )


async def _in_node(url: str, body: str) -> object:
    script = (
        "import { Client } from '@langchain/langgraph-sdk';"
        f"const client = new Client({{ apiUrl: '{url}' }});"
        f"const made = await (async () => {{ {body} }})();"
        "console.log(JSON.stringify(made));"
    )
    process = await asyncio.create_subprocess_exec(
        "node",
        "--input-type=module",
        "-e",
        script,
        cwd=_CLIENTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    told, failed = await process.communicate()
    if process.returncode:
        raise NodeFailed(failed.decode())
    return json.loads(told)


class NodeFailed(Exception):
    """The JavaScript SDK has raised; the message is what node has printed."""

    def __init__(self, printed: str) -> None:
        # Anything else is a mistake of the script.
        assert any(word in printed for word in ("fetch failed", "HTTP 503", "terminated")), printed
        super().__init__(printed)


KINDS: dict[str, Callable[[str], Awaitable[object]]] = {
    "requests": with_requests,
    "httpx": with_httpx,
    "Python SDK": with_the_sdk,
    "Python SDK, stream": streaming_with_the_sdk,
    "JavaScript SDK": with_javascript,
    "JavaScript SDK, stream": streaming_with_javascript,
}


#: How a client says that a request has failed.
FAILED = (requests.RequestException, httpx.HTTPError, APIError, NodeFailed)


def _need_node(kind: str) -> None:
    if "JavaScript" in kind:
        require_tool("node", remedy="make ci-tools")


#: Those who go on at the ``Location`` of an answer that was cut. All others fail; nobody repeats
#: a POST.
FOLLOWS = {
    "Python SDK": "/join",
    "Python SDK, stream": "/stream",
    "JavaScript SDK, stream": "/stream",
}


@pytest.mark.parametrize("kind", list(KINDS))
async def test_what_a_client_does_without_a_connection(kind: str) -> None:
    _need_node(kind)
    server = CuttingServer(free_port(), "")
    server.asked.append("")
    asking = asyncio.ensure_future(KINDS[kind](f"http://127.0.0.1:{server.port}"))
    # Long enough for node to begin.
    await asyncio.sleep(5 if "JavaScript" in kind else 1)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", server.port)
    try:
        await asking
        answered = True
    except FAILED as failure:
        answered = False
        print(type(failure).__name__)
    finally:
        listening.close()
    assert answered == ("SDK" in kind)


@pytest.mark.parametrize("trouble", [REFUSED, BEFORE, WITHIN])
@pytest.mark.parametrize("kind", list(KINDS))
async def test_what_a_client_does(kind: str, trouble: str) -> None:
    _need_node(kind)
    async with cutting(trouble) as server:
        answered = True
        try:
            await KINDS[kind](f"http://127.0.0.1:{server.port}")
        except FAILED as failure:
            answered = False
            print(type(failure).__name__)
        follows = FOLLOWS.get(kind) if trouble == WITHIN else None
        assert answered == (follows is not None)
        assert server.asked[1:] == ([f"GET {_RUN}{follows}"] if follows else [])


@pytest.mark.parametrize(
    ("trouble", "method", "other_pod_is_asked", "client_gets"),
    [
        ("no connection", "GET", True, "200"),
        ("no connection", "POST", True, "200"),
        (REFUSED, "GET", False, "503"),
        (REFUSED, "POST", False, "503"),
        (BEFORE, "GET", True, "200"),
        (BEFORE, "POST", False, "502"),
        (WITHIN, "GET", False, "RemoteProtocolError"),
        (WITHIN, "POST", False, "RemoteProtocolError"),
    ],
)
async def test_what_nginx_does(
    tmp_path: Path, trouble: str, method: str, other_pod_is_asked: bool, client_gets: str
) -> None:
    async with cutting(trouble) as server, cutting("") as other:
        # From its second request on it answers.
        other.asked.append("")
        first = free_port() if trouble == "no connection" else server.port
        proxy = Nginx(tmp_path, [first, other.port])
        await asyncio.to_thread(proxy.start)
        try:
            async with httpx.AsyncClient(timeout=20) as client:
                try:
                    got = str((await client.request(method, f"{proxy.url}/ok")).status_code)
                except httpx.HTTPError as failure:
                    got = type(failure).__name__
        finally:
            await asyncio.to_thread(proxy.stop)
        assert (got, other.asked[1:] == [f"{method} /ok"]) == (client_gets, other_pod_is_asked)
