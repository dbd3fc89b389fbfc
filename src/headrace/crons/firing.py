"""Makes the runs of due crons. Every process looks for them; no process leads.

A look takes due crons for a while, so that no two processes work on one of them. That alone
promises nothing, because a process may stand still. The promise is in the transaction that makes a
run: it moves the cron to the next slot, and makes nothing if the cron has moved already. So a slot
gets one run at most, and a cron whose process dies is taken again.

That transaction waits for no lock: another process may be making the run, or a caller changes the
cron. So a slot that was not free may still wait for its run. The next looks find that out.
"""

import asyncio
from datetime import UTC, datetime
from time import monotonic
from uuid import UUID

import structlog

from headrace.cron_settings import CronSettings
from headrace.crons.due_repository import DueCron, DueCronRepository
from headrace.crons.payloads import run_body
from headrace.crons.schedules import NoSuchSchedule, Schedule
from headrace.errors import (
    AssistantNotFound,
    RequestError,
    SlotTaken,
    ThreadBusy,
    ThreadNotFound,
    TooManyRequests,
)
from headrace.following.followed_run import FollowedRun
from headrace.graphs.http_entry import HeaderRules
from headrace.lifecycle import Signal, Tasks
from headrace.notices.notifier import Notifier
from headrace.observability.cron_metrics import CronMetrics
from headrace.queue.rows import CronSlot
from headrace.runs.service import RunService
from headrace.unavailable_errors import Unavailable
from headrace.worker.worker import Worker

_log = structlog.stdlib.get_logger("headrace.crons")

#: So many runs are made at once: others need connections, too.
_AT_ONCE = 4
#: The shortest pause between two looks, unless there are more crons than one look takes.
_LEAST_PAUSE_SECONDS = 0.05
#: A slot that was not free is looked at again after so long: locks of crons are short.
_LOCKED_PAUSE_SECONDS = 0.1
#: A slot whose run is refused, or fails to be made, is tried again for so long; then it is skipped.
_REFUSED_SECONDS = 60.0


class CronFiring:
    """One per process that executes runs."""

    def __init__(
        self,
        repository: DueCronRepository,
        runs: RunService,
        worker: Worker,
        notifier: Notifier,
        settings: CronSettings,
        metrics: CronMetrics,
        header_rules: HeaderRules | None,
    ) -> None:
        self._repository = repository
        self._runs = runs
        self._worker = worker
        self._notifier = notifier
        self._settings = settings
        self._metrics = metrics
        # A header that the manifest names no longer reaches no run, though a cron still keeps it.
        self._header_rules = header_rules or HeaderRules()
        self._changed = Signal()
        self._places = asyncio.Semaphore(_AT_ONCE)
        #: Crons whose slots were not free, and since when.
        self._not_free: dict[UUID, tuple[DueCron, float]] = {}

    def start(self, tasks: Tasks) -> None:
        """Look for due crons from now on."""
        self._notifier.listeners.add(on_crons=self._changed.set)
        tasks.keep(self._look_again_and_again, name="crons", vital=False)

    async def _look_again_and_again(self) -> None:
        while True:
            self._changed.clear()
            pause = self._settings.poll_seconds
            if self._worker.takes_runs:
                try:
                    pause = min(pause, await self.look())
                except Unavailable as fault:
                    _log.warning("crons_not_looked_at", cause=fault.code)
            await self._changed.wait(pause)

    async def look(self) -> float:
        """Make the runs of due crons; return in how many seconds to look again.

        :raises Unavailable: the database does not answer. Runs that were not made are made later.
        """
        if self._not_free:
            await self._wake_free()
        limit = self._settings.firings_per_look
        due = await self._repository.take(limit=limit, seconds=self._settings.retry_seconds)
        if due:
            self._metrics.count_due(len(due))
            await asyncio.gather(*map(self._fire_in_place, due))
        if len(due) == limit:
            return 0.0
        seconds = await self._repository.seconds_to_next()
        if seconds is None:
            seconds = self._settings.poll_seconds
        if self._not_free:
            seconds = min(seconds, _LOCKED_PAUSE_SECONDS)
        return max(_LEAST_PAUSE_SECONDS, seconds)

    async def _wake_free(self) -> None:
        """Tell slots whose crons were locked from those that have their runs.

        Crons whose locks are gone are due now. If a lock stays, the usual retry takes over.
        """
        found = await self._repository.wake(
            {cron_id: due.slot for cron_id, (due, _) in self._not_free.items()}
        )
        for cron_id, (due, since) in list(self._not_free.items()):
            waited = monotonic() - since
            if cron_id not in found:
                self._metrics.count_unfired("taken")
            elif found[cron_id]:
                _log.info("cron_was_locked", **_names(due), waited_seconds=round(waited, 3))
            elif waited < self._settings.retry_seconds:
                continue
            else:
                self._postponed(due, "locked")
            del self._not_free[cron_id]

    async def _fire_in_place(self, due: DueCron) -> None:
        async with self._places:
            try:
                await self._fire(due)
            except Unavailable as fault:
                self._postponed(due, fault.code)

    async def _fire(self, due: DueCron) -> None:
        began = monotonic()
        slot = CronSlot(due.cron_id, due.slot, None)
        try:
            slot = _slot_of(due)
            run = await self._make_run(due, slot)
        except SlotTaken:
            self._not_free[due.cron_id] = due, began
        except (Unavailable, TooManyRequests) as fault:
            self._postponed(due, fault.code)
        except (AssistantNotFound, ThreadNotFound, NoSuchSchedule) as error:
            if await self._repository.disable(slot, error.message):
                self._metrics.count_unfired("disabled")
                _log.warning("cron_disabled", **_names(due), reason=error.message)
        except ThreadBusy as error:
            if due.payload.get("multitask_strategy") != "reject":
                self._postponed(due, error.code)
            elif await self._repository.skip(slot):
                self._metrics.count_unfired("busy")
                _log.info("cron_skipped", **_names(due), next_run_date=_shown(slot.next_at))
        except RequestError as error:
            await self._refused(due, slot, error.message)
        except Exception as error:
            # One bad cron must not stop the others.
            _log.exception("cron_failed", **_names(due))
            await self._refused(due, slot, type(error).__name__)
        else:
            late = due.late_seconds + monotonic() - began
            self._metrics.observe_fired(late)
            _log.info(
                "cron_fired",
                **_names(due),
                run_id=str(run.run_id),
                late_seconds=round(late, 3),
                next_run_date=_shown(slot.next_at),
            )

    async def _make_run(self, due: DueCron, slot: CronSlot) -> FollowedRun:
        """:raises SlotTaken, RequestError: as :meth:`RunService.create`."""
        body = run_body(due.payload, due.assistant_id)
        if due.thread_id is None:
            body = body.model_copy(update={"on_completion": due.on_run_completed})
        return await self._runs.create(
            due.principal,
            due.thread_id,
            body,
            request_id=f"cron-{due.cron_id}",
            background=True,
            headers=self._header_rules.still_chosen(due.headers),
            slot=slot,
        )

    def _postponed(self, due: DueCron, cause: str) -> None:
        """Any process takes the cron again after a while."""
        self._metrics.count_unfired("postponed")
        seconds = self._settings.retry_seconds
        _log.warning("cron_postponed", **_names(due), cause=cause, retry_seconds=seconds)

    async def _refused(self, due: DueCron, slot: CronSlot, error: str) -> None:
        """Leave the slot to other processes, which may have the graph; in the end skip it."""
        if due.late_seconds < _REFUSED_SECONDS:
            self._postponed(due, error)
        elif await self._repository.skip(slot):
            self._metrics.count_unfired("refused")
            next_at = _shown(slot.next_at)
            _log.warning("cron_refused", **_names(due), error=error, next_run_date=next_at)


def _slot_of(due: DueCron) -> CronSlot:
    """The slot, and the first one after now: those between the two get no runs.

    :raises NoSuchSchedule: this release cannot read the schedule, or has not its time zone.
    """
    schedule = Schedule.read(due.schedule, due.timezone)
    next_at = schedule.after(max(due.now, due.slot))
    if next_at is not None and due.end_time is not None and next_at > due.end_time:
        next_at = None
    return CronSlot(due.cron_id, due.slot.astimezone(UTC), next_at)


def _names(due: DueCron) -> dict[str, str | None]:
    return {
        "cron_id": str(due.cron_id),
        "cron_thread_id": due.thread_id,
        "slot": _shown(due.slot),
    }


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
