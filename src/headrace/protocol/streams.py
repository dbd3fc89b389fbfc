"""The events of a thread in the streaming protocol v3, for one subscription, run after run.

A stream lasts until its client leaves. It may begin before there is a thread. When this process
cannot go on with it, the stream is broken off, not completed: clients take a completed stream for
the end, and connect again after a broken one.
"""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from time import monotonic

import structlog

from headrace.auth.principal import Principal
from headrace.event_settings import EventSettings
from headrace.events.reader import FollowingStopped
from headrace.events.reader_buffers import BrokenOff, Cut
from headrace.events.sse import HEARTBEAT
from headrace.following.followed_run import FollowedRun
from headrace.following.following import Following
from headrace.following.thread_runs import FoundRun, LastNumber, Seen
from headrace.following.thread_watcher import ThreadWatch, ThreadWatcher
from headrace.observability.metrics import Metrics
from headrace.protocol.run_events import RunEvents, WireEvent
from headrace.protocol.subscription import Subscription
from headrace.unavailable_errors import Draining, Unavailable
from headrace.worker.worker import Worker

_log = structlog.stdlib.get_logger("headrace.protocol")

#: Gives the chunks of frames to send; see :meth:`EventReader.pieces`.
SendPieces = Callable[[list[bytes]], Iterator[bytes]]


class ProtocolStreams:
    """Opens streams; one per process."""

    def __init__(
        self,
        watcher: ThreadWatcher,
        following: Following,
        worker: Worker,
        settings: EventSettings,
        metrics: Metrics,
        *,
        heartbeat_seconds: float,
    ) -> None:
        self.watcher = watcher
        self.following = following
        self.worker = worker
        self.metrics = metrics
        self.heartbeat_seconds = heartbeat_seconds
        # The events of other runs are stored for this long after the client was last seen to read.
        self.patience_seconds = settings.watch_seconds / 2

    async def open(
        self,
        principal: Principal,
        thread_id: str,
        subscription: Subscription,
        seen: Seen = None,
    ) -> "ProtocolStream":
        """The events of the thread that the caller subscribes to.

        A thread that the caller does not see looks like one that does not exist yet.

        :param seen: where to begin; None: where the subscription says.
        :raises Unavailable: this process drains, or its database does not answer.
        """
        if self.watcher.released:
            raise Draining
        begin = seen or _begin_of(subscription)
        watch = await self.watcher.add(thread_id, principal, begin, may_wait=True)
        assert watch is not None
        return ProtocolStream(self, watch, subscription)


def _begin_of(subscription: Subscription) -> Seen:
    if subscription.since is not None:
        return LastNumber(subscription.since)
    return "untold" if subscription.is_of_control else "newest"


class ProtocolStream:
    """One client's stream. Read it to the end, or call :meth:`close`.

    :ivar number_before: the number before the first event of the present run.
    """

    def __init__(
        self, streams: ProtocolStreams, watch: ThreadWatch, subscription: Subscription
    ) -> None:
        self._streams = streams
        self._watch = watch
        self._subscription = subscription
        self.number_before = 0

    def close(self) -> None:
        """Stop watching the thread."""
        self._streams.watcher.remove(self._watch)

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Chunks of server-sent events, and heartbeats, until the thread is deleted.

        :raises FollowingStopped: the client must connect again.
        """
        pace = self._streams.heartbeat_seconds
        sent_at = monotonic()
        async with aclosing(self._paced()) as batches:
            async for pieces, told in batches:
                frames = [event.frame for event in told]
                # Large events must be freed when the reader is cut.
                told.clear()
                for chunk in pieces(frames):
                    sent_at = monotonic()
                    yield chunk
                    self._look_at_pace(sent_at)
                if monotonic() - sent_at > 0.9 * pace:
                    sent_at = monotonic()
                    yield HEARTBEAT
                    self._look_at_pace(sent_at)

    async def events(self) -> AsyncGenerator[WireEvent, None]:
        """Each event, until the thread is deleted.

        :raises FollowingStopped: as :meth:`frames`.
        """
        async with aclosing(self._paced()) as batches:
            async for _, told in batches:
                for event in told:
                    sent_at = monotonic()
                    yield event
                    self._look_at_pace(sent_at)

    async def _paced(self) -> AsyncGenerator[tuple[SendPieces, list[WireEvent]], None]:
        """
        :raises FollowingStopped: the client must connect again.
        """
        try:
            async with aclosing(self._batches()) as batches:
                async for batch in batches:
                    yield batch
        except (Cut, BrokenOff):
            if self._watch.cut:
                self._note_cut("behind", 0.0)
            raise FollowingStopped("slow_client") from None
        finally:
            self.close()

    def _look_at_pace(self, sent_at: float) -> None:
        """:raises FollowingStopped: the client has taken the last chunk too slowly."""
        seconds = monotonic() - sent_at
        if seconds > self._streams.patience_seconds:
            self._note_cut("stalled", seconds)
            raise FollowingStopped("slow_client")

    def _note_cut(self, reason: str, seconds: float) -> None:
        _log.warning(
            "slow_client_cut", thread_id=self._watch.thread_id, reason=reason, seconds=seconds
        )
        self._streams.metrics.http.count_cut_client(reason)

    async def _batches(self) -> AsyncGenerator[tuple[SendPieces, list[WireEvent]], None]:
        """The events that the client gets, as they come; an empty list from time to time."""
        watch = self._watch
        while watch.waiting or not watch.gone:
            if self._streams.watcher.released:
                raise FollowingStopped
            run = await watch.next(self._streams.heartbeat_seconds)
            if run is None:
                yield iter, []
                continue
            async with aclosing(self._run(run)) as batches:
                async for batch in batches:
                    yield batch

    async def _run(
        self, found: FoundRun
    ) -> AsyncGenerator[tuple[SendPieces, list[WireEvent]], None]:
        streams, wants = self._streams, self._subscription.wants
        run = FollowedRun(
            following=streams.following,
            run_id=found.run_id,
            thread_id=self._watch.thread_id,
            graph_id=found.graph_id,
            tenant=self._watch.principal.tenant,
            resumable=True,
            created=found.whole,
            local=streams.worker.execution_of(found.run_id),
        )
        events = RunEvents(found)
        self.number_before = found.number_before
        reader = run.subscribe(found.after)
        try:
            while (page := await reader.read(streams.heartbeat_seconds)) is not None:
                told = [
                    one
                    for event in page
                    for one in events.of(event)
                    if wants(one.channel, one.namespace)
                ]
                page = ()
                if events.kept_end and self._subscription.is_of_control:
                    # Before the client knows, because it may open its next stream at once.
                    with suppress(Unavailable):
                        await streams.watcher.note_told(found.run_id)
                yield reader.pieces, told
            yield (
                reader.pieces,
                [one for one in events.rest() if wants(one.channel, one.namespace)],
            )
        finally:
            reader.close()
