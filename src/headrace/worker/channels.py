"""Opens the event channel of each run that begins here.

Joins the channel, which knows only events, with the event log, the notifier and the metrics.
"""

from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

from headrace.checkpoints.fence import RunToken
from headrace.event_settings import EventSettings
from headrace.events.channel import Channel
from headrace.events.event import Event
from headrace.events.log import EventLog
from headrace.events.reader_buffers import BufferBudget
from headrace.notices.notifier import Notifier
from headrace.observability.metrics import Metrics


class Channels:
    """One per process."""

    def __init__(
        self,
        settings: EventSettings,
        log: EventLog,
        notifier: Notifier,
        metrics: Metrics,
        reader_budget: BufferBudget | None = None,
    ) -> None:
        self._settings = settings
        self._log = log
        self._notifier = notifier
        self._metrics = metrics
        self._reader_budget = reader_budget or BufferBudget(
            settings, on_cut=metrics.http.count_cut_client
        )

    def open(
        self,
        token: RunToken,
        thread_id: str,
        *,
        resumable: bool,
        kept: bool,
        on_lost: Callable[[], None],
    ) -> Channel:
        """
        :param resumable: each event is stored before any reader gets it.
        :param kept: events are kept in memory though nobody reads them yet.
        :param on_lost: called when the log refuses events, because the lease on the run is lost.
        """
        run_id = token.run_id
        channel = Channel(
            self._settings,
            resumable=resumable,
            kept=kept,
            ids_known=token.attempt == 1,
            store=partial(self._log.store, thread_id, token),
            read_stored=partial(self._read, run_id, resumable),
            on_stored=lambda count: self._stored(channel, run_id, count),
            on_lost=on_lost,
            on_closed=lambda: self._notifier.run_changed(run_id),
            is_watched=partial(self._log.is_watched, run_id),
            reader_budget=self._reader_budget,
            run_id=run_id,
        )
        return channel

    async def continue_attempt(self, channel: Channel, token: RunToken) -> None:
        """Number the events of a later attempt after those of the earlier attempts.

        If the run is not resumable, earlier events were perhaps not stored. Then each attempt has
        a range of numbers of its own.
        """
        if token.attempt > 1:
            stored = await self._log.last_id(token.run_id)
            own_range = 0 if channel.resumable else (token.attempt - 1) << 32
            channel.continue_after(max(stored, own_range))

    async def _read(
        self, run_id: UUID, resumable: bool, after: int, before: int
    ) -> Sequence[Event]:
        return await self._log.read(run_id, after, before, resumable=resumable)

    def _stored(self, channel: Channel, run_id: UUID, count: int) -> None:
        self._metrics.runs.count_stored_events(count)
        if channel.watched:
            self._notifier.run_changed(run_id)
