"""A TCP proxy in front of Postgres that fails where a test wants it to.

The interesting moments are around a commit: before the server has it, and after the server has
carried it out but before the client knows. A commit is a COMMIT, which psycopg sends as a Query or,
in a pipeline, as a Parse message with this very text; or a flush that is a single call of its
function, without a COMMIT.
"""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from headrace.lifecycle import Tasks

_COMMIT = b"COMMIT\0"
#: A message up to this text. A Query: its type and its length. A Parse: an unnamed statement, too.
_BEFORE_COMMIT = {b"Q": 5, b"P": 6}
_BEGIN = b"BEGIN ISOLATION LEVEL"

#: A Parse message of a flush's call, with the name of the prepared statement (most often empty when
#: there is none), and a Bind message with such a name.
_PARSED = re.compile(rb"P.{4}([^\0]*)\0SELECT [^\0]*headrace_flush_", re.DOTALL)
_BOUND = re.compile(rb"B.{4}\0([^\0]*)\0", re.DOTALL)
#: How the server says that a COMMIT, or a flush's call, was carried out.
_DONE = (_COMMIT, b"SELECT 1\0")

#: A kernel gives up a connection whose peer acknowledges nothing, after ``tcp_user_timeout``
#: (headrace/db/conninfo.py). Here the kernel acknowledges what the proxy loses.
_UNACKNOWLEDGED_SECONDS = 30.0

Fault = Literal["hold", "drop", "drop_answer", "hold_answer"]


@dataclass
class AtCommit:
    """What becomes of one commit: it is held until ``release``; or lost, with its connection; or
    its answer is, at once or after ``release``."""

    fault: Fault
    #: Only a COMMIT meets it, and no flush that is one call.
    locked: bool = False
    #: Only what is sent in one piece with this text meets it.
    about: str = ""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)


class _Link:
    """One client's connection and the one to the server that serves it."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.from_client, self.to_client = client
        self.from_server, self.to_server = server
        self.losing_answer: AtCommit | None = None
        self.silent = False
        #: Nobody is told that the other end has gone silent, however long that lasts.
        self.acknowledged = False
        #: Ends the client's connection after it has sent into a silent one.
        self.given_up: asyncio.TimerHandle | None = None
        #: Prepared statements that are flushes.
        self.flushes: set[bytes] = set()

    def commit_in(self, data: bytes, *, locked: bool) -> int:
        """Where a commit begins; -1 if there is none.

        :param locked: look only for a COMMIT.
        """
        self.flushes |= {found[1] for found in _PARSED.finditer(data)}
        if (found := data.find(_COMMIT)) >= 0:
            begins = [found - before for before in _BEFORE_COMMIT.values()]
            return next(at for at in begins if data[at : at + 1] in _BEFORE_COMMIT)
        if _BEGIN in data or locked:
            return -1
        return next((m.start() for m in _BOUND.finditer(data) if m[1] in self.flushes), -1)

    def lose_sent(self) -> None:
        """The client has sent what nobody acknowledges."""
        if self.given_up is None and not self.acknowledged:
            loop, client = asyncio.get_running_loop(), self.to_client.transport
            self.given_up = loop.call_later(_UNACKNOWLEDGED_SECONDS, client.abort)

    def cut(self) -> None:
        if self.given_up is not None:
            self.given_up.cancel()
        for writer in (self.to_client, self.to_server):
            writer.transport.abort()


class Proxy:
    """Passes everything on until told otherwise."""

    def __init__(self, url: str, *, buffer_bytes: int | None = None) -> None:
        self._buffer_bytes = buffer_bytes
        self._given = conninfo_to_dict(url)
        self._tasks = Tasks()
        self._links: set[_Link] = set()
        self._at_commit: list[AtCommit] = []
        self._flows = asyncio.Event()
        self._flows.set()
        #: How long each piece of data is kept, either way.
        self.delay_seconds = 0.0
        self._server: asyncio.Server | None = None
        self.url = ""

    async def start(self) -> None:
        listening = self._narrowed(socket.create_server(("127.0.0.1", 0)))
        self._server = await asyncio.start_server(self._serve, sock=listening)
        port = self._server.sockets[0].getsockname()[1]
        # Encryption would hide what is waited for, and asking for it would cost a round trip.
        self.url = make_conninfo(
            "",
            **{
                **self._given,
                "host": "127.0.0.1",
                "port": port,
                "sslmode": "disable",
                "gssencmode": "disable",
            },
        )

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._tasks.stop()

    @property
    def connections(self) -> int:
        return len(self._links)

    def next_commit(self, fault: Fault, *, locked: bool = False, about: str = "") -> AtCommit:
        """Arrange what becomes of the next commit that comes by; several are met in turn.

        A flush that is one call is held before the server has any of it.

        :param locked: meet only a COMMIT, whose transaction has its locks. A flush has a COMMIT if
            sessions begin with a stricter isolation level.
        :param about: meet only what holds this text, such as an id among a flush's arguments.
        """
        arranged = AtCommit(fault, locked, about)
        self._at_commit.append(arranged)
        return arranged

    def stall(self) -> None:
        """Pass nothing on any more, on new connections neither; nobody is told."""
        self._flows.clear()

    def flow(self) -> None:
        """Pass on what was kept, and what comes."""
        self._flows.set()

    def half_open(self, *, acknowledged: bool = False) -> None:
        """Lose what comes on the present connections from now on; neither end is told. A client
        that sends more finds out after its ``tcp_user_timeout``.

        :param acknowledged: it finds out nothing: what is lost is acknowledged.
        """
        for link in self._links:
            link.silent, link.acknowledged = True, acknowledged

    def retarget(self, url: str) -> None:
        """Serve new connections from another server; those there are stay where they are."""
        self._given = conninfo_to_dict(url)

    def cut(self) -> None:
        """End all connections; new ones are served."""
        for link in list(self._links):
            link.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        link = _Link((reader, writer), upstream)
        self._links.add(link)
        directions = [
            self._tasks.start(self._to_server(link), name="proxy-to-server"),
            self._tasks.start(self._to_client(link), name="proxy-to-client"),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            link.cut()
            for direction in directions:
                direction.cancel()
            self._links.discard(link)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = str(self._given["host"]), self._given["port"]
        if host.startswith("/"):
            return await asyncio.open_unix_connection(Path(host, f".s.PGSQL.{port}"))
        reader, writer = await asyncio.open_connection(host, int(str(port)))
        self._narrowed(writer.get_extra_info("socket"))
        return reader, writer

    def _narrowed(self, link: socket.socket) -> socket.socket:
        if self._buffer_bytes:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer_bytes)
        return link

    async def _pass(self) -> None:
        """Return when the way is free."""
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        await self._flows.wait()

    async def _to_server(self, link: _Link) -> None:
        try:
            while data := await link.from_client.read(1 << 20):
                await self._pass()
                if link.silent:
                    link.lose_sent()
                    continue
                next_up = self._at_commit[0] if self._at_commit else None
                at = link.commit_in(data, locked=next_up is not None and next_up.locked)
                if at >= 0 and next_up is not None and next_up.about.encode() in data:
                    await self._meet(link, data, at, self._at_commit.pop(0))
                else:
                    link.to_server.write(data)
                await link.to_server.drain()
        except ConnectionError:
            pass

    async def _meet(self, link: _Link, data: bytes, at: int, commit: AtCommit) -> None:
        if commit.fault in ("drop_answer", "hold_answer"):
            link.losing_answer = commit
            link.to_server.write(data)
            return
        link.to_server.write(data[:at])
        try:
            await link.to_server.drain()
        finally:
            # Also where the connection has died meanwhile: it is met, and nobody else meets it.
            commit.reached.set()
        if commit.fault == "drop":
            raise ConnectionAbortedError
        await commit.release.wait()
        link.to_server.write(data[at:])

    async def _to_client(self, link: _Link) -> None:
        try:
            while data := await link.from_server.read(1 << 20):
                await self._pass()
                if link.silent:
                    continue
                if link.losing_answer is not None:
                    if any(tag in data for tag in _DONE):
                        link.losing_answer.reached.set()
                        if link.losing_answer.fault == "hold_answer":
                            await link.losing_answer.release.wait()
                        return
                    continue
                link.to_client.write(data)
                await link.to_client.drain()
        except ConnectionError:
            pass


@asynccontextmanager
async def proxied(url: str, *, buffer_bytes: int | None = None) -> AsyncIterator[Proxy]:
    """A proxy in front of the server of ``url``.

    :param buffer_bytes: what the kernel keeps for it in each direction, before it reads that.
    """
    proxy = Proxy(url, buffer_bytes=buffer_bytes)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
