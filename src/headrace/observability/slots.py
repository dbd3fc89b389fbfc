"""Status slots: what each server process of the pod last reported about itself.

Each process has a small JSON file under ``<runtime_dir>/slots``. A task on its event loop replaces
the file by rename each second, so the slot of a blocked or stopped loop becomes stale by itself. A
process that answers a probe reads all slots. Without a runtime directory there is one process, and
its slot stays in memory.
"""

import os
import time
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.observability.figures import Figures
from headrace.observability.process import is_alive

_log = structlog.stdlib.get_logger("headrace.slots")

State = Literal["starting", "serving", "draining"]


class Slot(BaseModel):
    """One process. Times are seconds since the epoch; fields unknown here are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pid: int = Field(gt=0, lt=2**31)
    #: The process that started it. Slots of two masters are on one board while a new master
    #: replaces the old one.
    master: int = 0
    state: State
    started_at: float
    written_at: float
    figures: Figures | None = None

    def age_seconds(self, now: float | None = None) -> float:
        return max(0.0, (time.time() if now is None else now) - self.written_at)


def slots_directory(runtime_dir: Path) -> Path:
    return runtime_dir / "slots"


class SlotReader:
    """Reads the slots of a folder. A file that has not changed is not parsed again.

    This keeps reading cheap: anybody may request the health of a pod, at any rate.
    """

    def __init__(self, runtime_dir: Path) -> None:
        self._runtime_dir = runtime_dir
        #: By file name: the identity of the file, and the slot that it held.
        self._known: dict[str, tuple[tuple[int, int], Slot]] = {}

    def read(self) -> list[Slot]:
        """The slots of living processes, by pid. Files of dead processes and broken files are
        skipped.
        """
        slots, known = [], {}
        for path in slots_directory(self._runtime_dir).glob("*.json"):
            try:
                found = path.stat()
                file = (found.st_ino, found.st_mtime_ns)
                before = self._known.get(path.name)
                if before is not None and before[0] == file:
                    slot = before[1]
                else:
                    slot = Slot.model_validate_json(path.read_bytes())
            except FileNotFoundError:
                continue
            except (OSError, ValidationError):
                _log.warning("slot_unreadable", path=path.name)
                continue
            known[path.name] = (file, slot)
            if is_alive(slot.pid):
                slots.append(slot)
        self._known = known
        return sorted(slots, key=lambda slot: slot.pid)


def read_slots(runtime_dir: Path) -> list[Slot]:
    """As :meth:`SlotReader.read`, once."""
    return SlotReader(runtime_dir).read()


def write_slot(runtime_dir: Path, slot: Slot) -> None:
    """Replace the process's file; readers see the old one or the new one, never a part."""
    directory = slots_directory(runtime_dir)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{slot.pid}.json"
    draft = path.with_suffix(".new")
    draft.write_text(slot.model_dump_json(), encoding="utf-8")
    os.replace(draft, path)


def remove_slot(runtime_dir: Path, pid: int) -> None:
    for suffix in (".json", ".new"):
        (slots_directory(runtime_dir) / f"{pid}{suffix}").unlink(missing_ok=True)


def remove_slots_of(runtime_dir: Path, master: int) -> None:
    """Remove the slots of processes whose master was killed."""
    for path in slots_directory(runtime_dir).glob("*.json"):
        try:
            slot = Slot.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue
        if slot.master == master:
            remove_slot(runtime_dir, slot.pid)


class StatusBoard:
    """The slot of this process, and a view of the others."""

    def __init__(self, runtime_dir: Path | None, *, stale_seconds: float) -> None:
        self._runtime_dir = runtime_dir
        self._reader = SlotReader(runtime_dir) if runtime_dir is not None else None
        self._stale_seconds = stale_seconds
        now = time.time()
        self._slot = Slot(
            pid=os.getpid(), master=os.getppid(), state="starting", started_at=now, written_at=now
        )

    @property
    def own(self) -> Slot:
        return self._slot

    @property
    def stale_seconds(self) -> float:
        return self._stale_seconds

    @property
    def shared(self) -> bool:
        """Whether other processes may publish on this board."""
        return self._runtime_dir is not None

    def set_state(self, state: State) -> None:
        """Change and publish the state at once, so that the next probe of any process sees it."""
        self._slot = self._slot.model_copy(update={"state": state})
        self.publish()

    def publish(self, figures: Figures | None = None) -> None:
        """Write the slot. A full disk is logged, not raised: the process goes on serving.

        :param figures: None: publish the last figures again.
        """
        changes: dict[str, object] = {"written_at": time.time()}
        if figures is not None:
            changes["figures"] = figures
        self._slot = self._slot.model_copy(update=changes)
        if self._runtime_dir is None:
            return
        try:
            write_slot(self._runtime_dir, self._slot)
        except OSError as error:
            _log.error("slot_write_failed", error=str(error))

    def read_all(self) -> list[Slot]:
        """The slots of all living processes of the pod, this one included, by pid."""
        if self._reader is None:
            return [self._slot]
        others = [slot for slot in self._reader.read() if slot.pid != self._slot.pid]
        return sorted([*others, self._slot], key=lambda slot: slot.pid)

    def others(self) -> list[Slot]:
        """The other processes of the pod that are not silent."""
        return [
            slot
            for slot in self.read_all()
            if slot.pid != self._slot.pid and not self.is_stale(slot)
        ]

    @property
    def leads(self) -> bool:
        """Whether this process does what one process of the pod does for all of them: it has the
        lowest pid of those that are not silent.
        """
        return all(self._slot.pid < slot.pid for slot in self.others())

    def is_stale(self, slot: Slot) -> bool:
        """Whether the process has been silent for too long. A process that starts may be silent."""
        return slot.state != "starting" and slot.age_seconds() > self._stale_seconds

    def remove(self) -> None:
        """Take this process off the board."""
        if self._runtime_dir is not None:
            remove_slot(self._runtime_dir, self._slot.pid)
