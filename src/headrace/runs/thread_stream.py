"""All runs of a thread as one stream of server-sent events, without an end of its own.

Each run is told from what is stored of it, wherever it is executed: a slow client has a page in
memory and the rest in the database. One that takes nothing for so long that storing might have
ceased is cut, and may read on from the last id it has seen.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing
from time import monotonic
from typing import Any, Literal, get_args
from uuid import UUID

import structlog

from headrace.auth.principal import Principal
from headrace.checkpoints.answer_memory import Reading
from headrace.errors import AnswersFull, AnswerTooLarge, Draining, InvalidRequest
from headrace.event_settings import EventSettings
from headrace.events.event import Event
from headrace.events.json_encoding import encode_json, sliced
from headrace.events.reader import Released
from headrace.events.reader_buffers import Cut
from headrace.events.sse import END, HEARTBEAT, RELEASED, frame
from headrace.following.following import Followable, Following, FollowingReader
from headrace.following.thread_watcher import (
    FoundRun,
    LastSeen,
    ThreadWatch,
    ThreadWatcher,
    is_dated,
)
from headrace.threads.service import found
from headrace.threads.state_service import StateService

_log = structlog.stdlib.get_logger("headrace.runs")

#: ``run_modes``: what the streams of the runs tell. ``lifecycle``: that they begin and are done.
#: ``state_update``: the thread's state whenever it has changed.
ThreadStreamMode = Literal["run_modes", "lifecycle", "state_update"]
THREAD_STREAM_MODES = get_args(ThreadStreamMode)

_DONE = "done"

#: An id of the stream: the run and the number of its event, or that the run was done.
_SEEN = re.compile(r"([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}):([0-9]{1,12}|done)")
#: Ids of runs tell when they were made.
_RUN_ID_VERSION = 7

#: The thread's present state, as clients see states.
ReadState = Callable[[Reading], Awaitable[Any]]


def last_seen(given: str | None) -> LastSeen | Literal["nothing"] | None:
    """What a ``Last-Event-ID`` says; -1 is before whatever is stored.

    :raises InvalidRequest: no stream of a thread has sent it.
    """
    if not given:
        return None
    if given == "-1":
        return "nothing"
    form = _SEEN.fullmatch(given)
    if form is None or (run_id := UUID(form[1])).version != _RUN_ID_VERSION or not is_dated(run_id):
        raise InvalidRequest(
            "Last-Event-ID: send -1, for all that is kept, or an id that this thread's stream has"
            " sent, like <run id>:<number>."
        )
    return LastSeen(run_id, None if form[2] == _DONE else int(form[2]))


class ThreadStreams:
    """Opens them; one per process."""

    def __init__(
        self,
        watcher: ThreadWatcher,
        following: Following,
        states: StateService,
        settings: EventSettings,
        *,
        heartbeat_seconds: float,
        on_cut: Callable[[str], None],
    ) -> None:
        self._watcher = watcher
        self._following = following
        self._states = states
        self._heartbeat_seconds = heartbeat_seconds
        # Its runs' events are stored for so long after it has been seen to read.
        self._patience_seconds = settings.watch_seconds / 2
        self._on_cut = on_cut

    async def open(
        self,
        principal: Principal,
        thread_id: str,
        modes: Collection[str],
        seen: LastSeen | Literal["nothing"] | None,
    ) -> "ThreadStream":
        """What is told from now on, or from what was seen last.

        :raises ThreadNotFound: there is no such thread for the caller.
        :raises Unavailable: this process drains, or its database does not answer.
        """
        if self._watcher.released:
            raise Draining
        watch = found(thread_id, await self._watcher.add(thread_id, principal.tenant, seen))

        async def read_state(reading: Reading) -> Any:
            return (await self._states.read(principal, thread_id, reading=reading)).__dict__

        return ThreadStream(
            self._following,
            watch,
            modes or ("run_modes",),
            heartbeat_seconds=self._heartbeat_seconds,
            patience_seconds=self._patience_seconds,
            read_state=read_state,
            reading=self._states.reading,
            on_cut=self._on_cut,
            close=lambda: self._watcher.remove(watch),
            is_released=lambda: self._watcher.released,
        )


class ThreadStream:
    """One client's stream; :meth:`frames` or :meth:`close` ends it."""

    def __init__(
        self,
        following: Following,
        watch: ThreadWatch,
        modes: Collection[str],
        *,
        heartbeat_seconds: float,
        patience_seconds: float,
        read_state: ReadState,
        reading: Callable[[], Reading],
        on_cut: Callable[[str], None],
        close: Callable[[], None],
        is_released: Callable[[], bool],
    ) -> None:
        self._following = following
        self._watch = watch
        self._modes = modes
        self._heartbeat_seconds = heartbeat_seconds
        self._patience_seconds = patience_seconds
        self._read_state = read_state
        self._reading = reading
        self._on_cut = on_cut
        self.close = close
        self._is_released = is_released
        self._told_state = watch.state_updated_at

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """What to send, and a heartbeat whenever that is nothing; until the thread is gone.

        :raises Released: the client was cut in the midst of an event; the body must not be
            completed.
        """
        whole = True
        try:
            async with aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    sent_at = monotonic()
                    yield chunk
                    whole = chunk.endswith(END)
                    if monotonic() - sent_at > self._patience_seconds:
                        self._note_cut("stalled", monotonic() - sent_at)
                        raise Cut
        except Cut:
            if self._watch.cut:
                self._note_cut("behind", 0.0)
            if not whole:
                # Half an event must not look like a whole one.
                raise Released from None
        except Released:
            yield RELEASED
        finally:
            self.close()

    def _note_cut(self, reason: str, seconds: float) -> None:
        thread_id = self._watch.thread_id
        _log.warning("slow_client_cut", thread_id=thread_id, reason=reason, seconds=seconds)
        self._on_cut(reason)

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        watch = self._watch
        while watch.waiting or not watch.gone:
            if self._is_released():
                raise Released
            if "state_update" in self._modes and watch.state_updated_at != self._told_state:
                async with aclosing(self._state()) as pieces:
                    async for piece in pieces:
                        yield piece
                continue
            run = await watch.next(self._heartbeat_seconds)
            if run is None:
                yield HEARTBEAT
                continue
            async with aclosing(self._run(run)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _state(self) -> AsyncGenerator[bytes, None]:
        """The thread's state; a heartbeat in its place where there is no memory for it yet."""
        told, reading = self._watch.state_updated_at, self._reading()
        with reading:
            try:
                state = encode_json(await self._read_state(reading))
            except AnswerTooLarge as refusal:
                state = encode_json({"values": None, "values_omitted": refusal.message})
            except AnswersFull:
                yield HEARTBEAT
                return
            self._told_state = told
            for piece in sliced(frame("state_update", state)):
                yield piece

    async def _run(self, run: FoundRun) -> AsyncGenerator[bytes, None]:
        reader = FollowingReader(
            self._following,
            Followable(
                run_id=run.run_id,
                thread_id=self._watch.thread_id,
                graph_id=run.graph_id,
                tenant=self._watch.tenant,
                # Of one that is joined what is to come, whether more is stored or not.
                resumable=run.after is None,
            ),
            # Not from memory: a slow client has no place there.
            None,
            after=run.after,
            created=run.whole,
        )
        told, told_at = run.whole, monotonic()
        try:
            while (events := await reader.read(self._heartbeat_seconds)) is not None:
                told = told or bool(events)
                frames = [_event_frame(run.run_id, one) for one in events if self._tells(one)]
                quiet = not events
                # Not kept here: what is large goes when the reader is cut.
                events = ()
                for chunk in reader.pieces(frames):
                    told_at = monotonic()
                    yield chunk
                if quiet or monotonic() - told_at > self._heartbeat_seconds:
                    told_at = monotonic()
                    yield HEARTBEAT
        finally:
            reader.close()
        if told and self._tells_runs:
            done = encode_json({"status": "run_done", "run_id": str(run.run_id)})
            yield frame("metadata", done, f"{run.run_id}:{_DONE}")

    @property
    def _tells_runs(self) -> bool:
        return "run_modes" in self._modes or "lifecycle" in self._modes

    def _tells(self, event: Event) -> bool:
        if event.name == "end":
            # For clients it would be the end of the whole stream.
            return False
        return "run_modes" in self._modes or (
            "lifecycle" in self._modes and event.name == "metadata"
        )


def _event_frame(run_id: UUID, event: Event) -> bytes:
    # An error, which ends a run, has no id: whoever has seen it is told again how the run ended.
    return frame(event.name, event.data, f"{run_id}:{event.event_id}" if event.event_id else None)
