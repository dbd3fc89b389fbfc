"""The runs that this process has, the places that they hold, and whether there is room for more."""

from uuid import UUID

from headrace.lifecycle import Signal
from headrace.notices.notifier import Notifier
from headrace.queue.rows import RunRequest
from headrace.shares import Places
from headrace.worker.execution import Execution
from headrace.worker.waiting_line import WaitingLine


class Roster:
    """One per process; only its event loop uses it.

    While runs wait in the queue, every second place that becomes free is kept for the next round of
    claims. The others are for starts in place. So neither waits for ever behind the other.

    :param places: the places for runs. A start in place holds one while it is under way. An
        execution holds one until its graph and its threads have ended.
    :param notifier: tells other processes that a run may be claimed.
    :param enabled: whether this process executes runs.
    :param wait_seconds: how long a start may wait for a place; see :class:`WaitingLine`.
    """

    def __init__(
        self,
        places: Places,
        notifier: Notifier,
        *,
        enabled: bool = True,
        wait_seconds: float = 0.0,
    ) -> None:
        self.places = places
        self.enabled = enabled
        self._line = WaitingLine(places, wait_seconds)
        #: By run id.
        self.executions: dict[UUID, Execution] = {}
        #: Runs that are being started in place, and those that wait for a place to start in.
        self.starting: set[UUID] = set()
        #: Places for the round of claims under way, and those kept for the next round.
        self._reserved = 0
        self._kept = 0
        self._closed = False
        #: Runs may wait in the queue: the last round has left some, or had no place to look for.
        self.left_runs = False
        #: The next place that becomes free while runs wait in the queue is for starts in place.
        self._turn_of_starts = False
        #: The last claim left runs in the queue, because their callers hold all that they may.
        self.left_at_limit = False
        #: A run whose process was lost may wait that the last look for such runs has not found.
        self.lost_run_announced = False
        #: The process ends: no run may begin.
        self.draining = False
        self._notifier = notifier
        self._wake = Signal()
        notifier.listeners.add(on_queue=self.wake, on_any=self.wake)

    @property
    def free(self) -> int:
        """Places for starts in place that may begin now."""
        return max(0, self.places.free - self._line.held_back)

    @property
    def claimable(self) -> int:
        """Places that this round of claims may fill."""
        return 0 if self._closed else self.free + self._reserved

    @property
    def waiting(self) -> int:
        """Starts that wait for a place."""
        return self._line.waiting

    def close(self) -> None:
        """Let no run begin: a suspect has this process to itself, or is about to."""
        self._closed = True
        self._hold_back()

    def open(self) -> None:
        """Let runs begin again after :meth:`close`."""
        self._closed = False
        self._hold_back()
        self._line.admit()

    @property
    def busy(self) -> bool:
        """Whether this process executes or starts any run."""
        return bool(self.executions or self.starting)

    def may_begin(self, caller: str) -> bool:
        """Whether there is a place for a run of this caller."""
        return self.free > 0 and self.places.allowance(caller) > 0

    def place_is_near(self, caller: str) -> bool:
        """Whether a start of this caller is likely to get a place soon, so that it should wait."""
        if self.draining or self._closed:
            return False
        queue_too = self.left_runs or self.left_at_limit
        return self._line.is_short(caller, starts_get_half=queue_too)

    def has(self, run_id: UUID) -> bool:
        return run_id in self.executions or run_id in self.starting

    def add_start(self, request: RunRequest) -> None:
        """The run is being started in place."""
        self.starting.add(request.run_id)
        self.places.hold(request.principal.caller)

    async def wait_to_start(self, request: RunRequest) -> bool:
        """Wait for a place; return whether the start holds one now, as after :meth:`add_start`."""
        self.starting.add(request.run_id)
        placed = False
        try:
            placed = await self._line.wait(request.principal.caller)
        finally:
            if not placed:
                self.starting.discard(request.run_id)
        return placed

    def remove_start(self, request: RunRequest) -> None:
        """The start is over. If it has succeeded, the execution holds another place."""
        self.starting.discard(request.run_id)
        self.places.release(request.principal.caller)
        self._line.admit()

    def add(self, execution: Execution) -> None:
        """The run is executed here; it holds a place even beyond the share of its caller."""
        self.executions[execution.run_id] = execution
        self.places.hold(execution.request.principal.caller)

    def remove(self, execution: Execution) -> None:
        """The run is not executed here any more; its place stays held until :meth:`give_back`."""
        if self.executions.get(execution.run_id) is execution:
            del self.executions[execution.run_id]

    def give_back(self, execution: Execution) -> None:
        """Free the place of a run whose graph and threads have ended."""
        caller = execution.request.principal.caller
        self.places.release(caller)
        self._share_out(caller)

    def _share_out(self, caller: str) -> None:
        """A run of this caller has freed a place: it is for the line, or for the queue."""
        self._line.note_freed(caller)
        if self.draining or self._closed:
            return
        if self.left_runs or self.left_at_limit:
            self._turn_of_starts = not self._turn_of_starts
            if not self._turn_of_starts:
                self._kept += 1
                self._hold_back()
                self.wake()
                return
        self._line.admit()
        if self.free == 1 or self.left_at_limit:
            # The process was full, or a caller at its limit: the last claim may have left runs.
            self.wake()

    def drain(self) -> None:
        """From now on no run begins here. Starts that wait for a place get none."""
        self.draining = True
        self._hold_back()
        self._line.turn_away()
        self.wake()

    def announce(self, *, room: bool | None = None) -> None:
        """Note that a run may be claimed: here if there is room, otherwise by another process.

        :param room: whether there is room for it here; None: there is if any place is free.
        """
        if room is None:
            room = self.free > 0
        if self.draining or not self.enabled or not room:
            self._notifier.queue_changed()
        self.wake()

    def announce_lost_run(self) -> None:
        """Note that a run whose process was lost may be claimed, by any process."""
        self.lost_run_announced = True
        self.announce(room=False)

    def wake(self) -> None:
        """Let the next round of claims begin."""
        self._wake.set()

    def start_round(self) -> None:
        """Note that a round of claims begins: from now on, :meth:`wake` is for the next round."""
        self._wake.clear()
        self._reserved, self._kept = self._kept, 0

    def reserve(self, places: int) -> None:
        """Reserve so many places for the claim of this round, until it is over."""
        self._reserved = places
        self._hold_back()

    def end_round(self) -> None:
        """Note that the runs that were claimed have begun. The places that are left are for all."""
        self._reserved = 0
        if not (self.left_runs or self.left_at_limit):
            self._kept = 0
        self._hold_back()
        self._line.admit()

    async def until_woken(self, timeout_seconds: float) -> None:
        await self._wake.wait(timeout_seconds)

    def _hold_back(self) -> None:
        shut = self._closed or self.draining
        self._line.held_back = self.places.total if shut else self._reserved + self._kept
