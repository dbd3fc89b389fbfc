"""What one run tells those who follow it in this process: a bounded ring per reader.

Publishing never waits: a reader that falls behind the bound is cut, the run is not slowed (N56).
"""

import asyncio
from collections import deque


class Cut(Exception):
    """The reader was too slow and has missed events."""


class Reader:
    """One follower's view of a run; everything published after it was made."""

    def __init__(self, *, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._closed = False
        self._cut = False

    async def read(self, timeout_seconds: float) -> bytes | None:
        """All frames that wait, as one chunk; ``b""`` when none came in time; None at the end.

        :raises Cut: when frames were dropped because nobody read.
        """
        if not self._frames and not self._closed and not self._cut:
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._changed.wait()
            except TimeoutError:
                return b""
        if self._cut:
            raise Cut
        if self._frames:
            chunk = b"".join(self._frames)
            self._frames.clear()
            self._bytes = 0
            return chunk
        return None if self._closed else b""

    def _push(self, frame: bytes) -> None:
        if self._cut:
            return
        self._frames.append(frame)
        self._bytes += len(frame)
        # A single frame over the byte bound still passes: it cannot be split.
        if len(self._frames) > self._max_frames or (
            self._bytes > self._max_bytes and len(self._frames) > 1
        ):
            self._cut = True
            self._frames.clear()
        self._changed.set()

    def _close(self) -> None:
        self._closed = True
        self._changed.set()


class Channel:
    """The events of one run, fanned out to its readers."""

    def __init__(self, *, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._readers: set[Reader] = set()
        self._closed = False

    @property
    def followed(self) -> bool:
        """Whether anyone listens; events that nobody hears need no encoding."""
        return bool(self._readers)

    def subscribe(self) -> Reader:
        reader = Reader(max_frames=self._max_frames, max_bytes=self._max_bytes)
        if self._closed:
            reader._close()
        else:
            self._readers.add(reader)
        return reader

    def unsubscribe(self, reader: Reader) -> None:
        self._readers.discard(reader)

    def publish(self, frame: bytes) -> None:
        for reader in self._readers:
            reader._push(frame)

    def close(self) -> None:
        """No more events; readers get what waits, then the end."""
        self._closed = True
        for reader in self._readers:
            reader._close()
        self._readers.clear()
