"""The runs that this process has, the places that they hold, and whether there is room for more."""

from uuid import UUID

from headrace.lifecycle import Signal
from headrace.notices.notifier import Notifier
from headrace.queue.rows import RunRequest
from headrace.shares import Places
from headrace.worker.execution import Execution


class Roster:
    """One per process; only its event loop uses it.

    :param places: the places for runs. A start in place holds one while it is under way. An
        execution holds one until its graph and its threads have ended.
    :param notifier: tells other processes that a run may be claimed.
    :param enabled: whether this process executes runs.
    """

    def __init__(self, places: Places, notifier: Notifier, *, enabled: bool = True) -> None:
        self.places = places
        self.enabled = enabled
        #: By run id.
        self.executions: dict[UUID, Execution] = {}
        #: Runs that are being started in place.
        self.starting: set[UUID] = set()
        #: Places that a claim under way may fill.
        self.reserved = 0
        #: A suspect has this process to itself, or is about to: no other run may begin.
        self.closed = False
        #: The last claim left runs in the queue, because their callers hold all that they may.
        self.left_at_limit = False
        #: A suspect may wait that the last look for suspects has not found.
        self.suspect_announced = False
        #: The process ends: no run may begin.
        self.draining = False
        self._notifier = notifier
        self._wake = Signal()
        notifier.listeners.add(on_queue=self.wake, on_any=self.wake)

    @property
    def free(self) -> int:
        """Places for runs that may begin now."""
        return 0 if self.closed else max(0, self.places.free - self.reserved)

    @property
    def busy(self) -> bool:
        """Whether this process executes or starts any run."""
        return bool(self.executions or self.starting)

    def may_begin(self, caller: str) -> bool:
        """Whether there is a place for a run of this caller."""
        return self.free > 0 and self.places.allowance(caller) > 0

    def has(self, run_id: UUID) -> bool:
        return run_id in self.executions or run_id in self.starting

    def add_start(self, request: RunRequest) -> None:
        """The run is being started in place."""
        self.starting.add(request.run_id)
        self.places.hold(request.principal.caller)

    def remove_start(self, request: RunRequest) -> None:
        """The start is over. If it has succeeded, the execution holds another place."""
        self.starting.discard(request.run_id)
        self.places.release(request.principal.caller)

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
        self.places.release(execution.request.principal.caller)
        if not self.draining and (self.free == 1 or self.left_at_limit):
            # The process was full, or a caller at its limit: the last claim may have left runs.
            self.wake()

    def drain(self) -> None:
        """From now on no run begins here."""
        self.draining = True
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

    def announce_suspect(self) -> None:
        """Note that a suspect may be claimed: by any process that executes nothing."""
        self.suspect_announced = True
        self.announce(room=False)

    def wake(self) -> None:
        """Let the next round of claims begin."""
        self._wake.set()

    def start_round(self) -> None:
        """Note that a round of claims begins: from now on, :meth:`wake` is for the next round."""
        self._wake.clear()

    async def until_woken(self, timeout_seconds: float) -> None:
        await self._wake.wait(timeout_seconds)
