"""All runs of a thread as one stream of server-sent events, which lasts as long as the thread.

The events of each run are read from the database, in whichever process the run is executed. So a
slow client has at most two pages in memory, and the rest in the database. Events are stored only
while a client reads: a client that takes nothing for too long is cut, and may read on from its last
id.
"""

import re
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from time import monotonic
from typing import Literal, get_args
from uuid import UUID

import structlog

from headrace.auth.principal import Principal
from headrace.errors import AnswerTooLarge, InvalidRequest, ThreadNotFound
from headrace.event_settings import EventSettings
from headrace.events.event import Event
from headrace.events.json_encoding import encode_json, sliced
from headrace.events.reader import Ending, FollowingStopped
from headrace.events.reader_buffers import Cut
from headrace.events.sse import END, HEARTBEAT, RELEASED, frame
from headrace.following.followed_run import FollowedRun
from headrace.following.following import Following
from headrace.following.thread_runs import FoundRun, LastSeen, is_dated
from headrace.following.thread_watcher import ThreadWatch, ThreadWatcher
from headrace.observability.metrics import Metrics
from headrace.runs.response_bodies import paced_chunks
from headrace.threads.repository import found
from headrace.threads.state_service import StateService
from headrace.unavailable_errors import AnswersFull, Draining

_log = structlog.stdlib.get_logger("headrace.runs")

#: ``run_modes``: the events of the runs. ``lifecycle``: that a run begins, and that it is done.
#: ``state_update``: the thread's state whenever it has changed.
ThreadStreamMode = Literal["run_modes", "lifecycle", "state_update"]
THREAD_STREAM_MODES = get_args(ThreadStreamMode)

_DONE = "done"

#: An id of the stream: the run, then the number of its event, or ``done`` for its end.
_SEEN = re.compile(r"([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}):([0-9]{1,12}|done)")
#: The version of UUID that run ids have: such an id holds the time when the run was made.
_RUN_ID_VERSION = 7


def last_seen(given: str | None) -> LastSeen | Literal["nothing"] | None:
    """What the client has seen, by its ``Last-Event-ID``; ``"nothing"`` for -1; None for no id.

    :raises InvalidRequest: no stream of a thread has sent such an id.
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
    """Opens streams; one per process."""

    def __init__(
        self,
        watcher: ThreadWatcher,
        following: Following,
        states: StateService,
        settings: EventSettings,
        metrics: Metrics,
        *,
        heartbeat_seconds: float,
    ) -> None:
        self.watcher = watcher
        self.following = following
        self.states = states
        self.metrics = metrics
        self.heartbeat_seconds = heartbeat_seconds
        # The events of its runs are stored for this long after the client was last seen to read.
        self.patience_seconds = settings.watch_seconds / 2

    async def open(
        self,
        principal: Principal,
        thread_id: str,
        modes: Collection[str],
        seen: LastSeen | Literal["nothing"] | None,
    ) -> "ThreadStream":
        """The thread's stream; ``seen`` is as in :meth:`ThreadWatcher.add`.

        :raises ThreadNotFound, InvalidRequest: the caller may see no such thread.
        :raises Unavailable: this process drains, or its database does not answer.
        """
        if self.watcher.released:
            raise Draining
        watch = found(thread_id, await self.watcher.add(thread_id, principal, seen))
        return ThreadStream(self, principal, watch, modes or ("run_modes",))


class ThreadStream:
    """One client's stream. Read :meth:`frames` to the end, or call :meth:`close`."""

    def __init__(
        self,
        streams: ThreadStreams,
        principal: Principal,
        watch: ThreadWatch,
        modes: Collection[str],
    ) -> None:
        self._streams = streams
        self._principal = principal
        self._watch = watch
        self._modes = modes
        self._told_state = watch.state_updated_at
        #: Why :meth:`frames` ended, if it was cut.
        self.ending = Ending()

    def close(self) -> None:
        """Stop watching the thread."""
        self._streams.watcher.remove(self._watch)

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Chunks to send, and a heartbeat whenever there is none, until the thread is deleted.

        :raises FollowingStopped: the client was cut in the midst of an event; the body must not be
            completed.
        """
        whole = True
        try:
            async with aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    sent_at = monotonic()
                    yield chunk
                    whole = chunk.endswith(END)
                    if monotonic() - sent_at > self._streams.patience_seconds:
                        self._note_cut("stalled", monotonic() - sent_at)
                        raise Cut
        except Cut:
            if self._watch.cut:
                self._note_cut("behind", 0.0)
            if not whole:
                # Half an event must not look like a whole one.
                raise FollowingStopped("slow_client") from None
            self.ending.note("slow_client")
        except FollowingStopped as stopped:
            self.ending.note(stopped.reason)
            yield RELEASED
        finally:
            self.close()

    def _note_cut(self, reason: str, seconds: float) -> None:
        thread_id = self._watch.thread_id
        _log.warning("slow_client_cut", thread_id=thread_id, reason=reason, seconds=seconds)
        self._streams.metrics.http.count_cut_client(reason)

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        watch = self._watch
        while watch.waiting or not watch.gone:
            if self._streams.watcher.released:
                raise FollowingStopped
            if "state_update" in self._modes and watch.state_updated_at != self._told_state:
                async with aclosing(self._state()) as pieces:
                    async for piece in pieces:
                        yield piece
                continue
            run = await watch.next(self._streams.heartbeat_seconds)
            if run is None:
                yield HEARTBEAT
                continue
            async with aclosing(self._run(run)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _state(self) -> AsyncGenerator[bytes, None]:
        """The thread's state; a heartbeat instead if there is no memory for the state now."""
        states, watch = self._streams.states, self._watch
        told, reading = watch.state_updated_at, states.reading()
        with reading:
            try:
                read = await states.read(self._principal, watch.thread_id, reading=reading)
                state = encode_json(read.__dict__)
                del read
            except AnswerTooLarge as refusal:
                state = encode_json({"values": None, "values_omitted": refusal.message})
            except AnswersFull:
                yield HEARTBEAT
                return
            except ThreadNotFound:
                # Deleted a moment ago: the watch hears of it next, and ends the stream.
                self._told_state = told
                return
            self._told_state = told
            for piece in sliced(frame("state_update", state)):
                yield piece

    async def _run(self, found: FoundRun) -> AsyncGenerator[bytes, None]:
        run = FollowedRun(
            following=self._streams.following,
            run_id=found.run_id,
            thread_id=self._watch.thread_id,
            graph_id=found.graph_id,
            tenant=self._watch.principal.tenant,
            # A client that joins a run gets only the events to come, even if others are stored.
            resumable=found.after is None,
            created=found.whole,
            # Read the database, not the memory: that has no room for slow clients.
            local=None,
        )
        told = found.whole

        def frames(events: Sequence[Event]) -> list[bytes]:
            nonlocal told
            told = told or bool(events)
            return [one.frame_in_thread(run.run_id) for one in events if self._tells(one)]

        reader = run.subscribe(found.after)
        try:
            pace = self._streams.heartbeat_seconds
            async with aclosing(paced_chunks(reader, frames, pace)) as chunks:
                async for chunk in chunks:
                    yield chunk
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
            # Clients would take it for the end of the whole stream.
            return False
        return "run_modes" in self._modes or (
            "lifecycle" in self._modes and event.name == "metadata"
        )
