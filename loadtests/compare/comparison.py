"""Contenders side by side: rounds in rotated order, workload by workload.

The servers of this repository run together, and each server of others beside headrace alone, so
that no idle neighbour takes much. A ratio is taken within each round, between cells of one minute.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from loadtests.compare.cells import Cells, HttpSample, NotMeasured
from loadtests.compare.contenders import CONTENDERS, HEADRACE, TUTORIAL, Place
from loadtests.compare.options import CompareOptions
from loadtests.compare.workloads import WORKLOADS, Alternating
from loadtests.measuring.apart import LoadFailed, drive
from loadtests.measuring.client import Load
from loadtests.measuring.figures import spread
from loadtests.measuring.servers import NotServing
from loadtests.peers.external import NotInstalled, program_of

#: By workload and contender, one sample for each round.
Samples = Mapping[str, Mapping[str, Sequence[HttpSample]]]

_STATEMENTS_OF = ("wait", "stream")
#: Counters of headrace are added to once a second.
_COUNTED_SECONDS = 1.3
_LONE_SECONDS = 90.0


@dataclass
class Compared:
    """Everything that was measured."""

    own: Samples = field(default_factory=dict)
    #: By the peer's name: it and headrace, beside each other.
    peers: dict[str, Samples] = field(default_factory=dict)
    #: The p50 of a lone run in milliseconds, by contender.
    lone: dict[str, list[float]] = field(default_factory=dict)
    #: By workload: statements and transactions of a run of headrace.
    statements: dict[str, tuple[float, float]] = field(default_factory=dict)
    #: Contenders that could not be measured, or some of their workloads, with the reason.
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Comparison:
    """Measures what the options ask for, on one Postgres."""

    def __init__(self, options: CompareOptions, admin_url: str) -> None:
        self._options = options
        self._admin_url = admin_url
        self.found = Compared()

    def run(self) -> Compared:
        """
        :raises NotServing: a server of this repository did not start.
        """
        own = [name for name in self._options.contenders if not CONTENDERS[name].environment]
        if own:
            self._own(own)
        for name in self._options.contenders:
            if CONTENDERS[name].environment:
                self._peer(name)
        return self.found

    def _own(self, names: Sequence[str]) -> None:
        started = time.perf_counter()
        with self._serving(names) as cells:
            self.found.own = self._rounds("own", cells, self._options.rounds)
            by_name = {one.contender.name: one for one in cells}
            if HEADRACE in by_name:
                self._statements(by_name[HEADRACE])
            if HEADRACE in by_name and TUTORIAL in by_name and "wait" in self._options.workloads:
                self._lone(by_name[HEADRACE], by_name[TUTORIAL])
        self.found.seconds["own"] = round(time.perf_counter() - started, 1)

    def _peer(self, name: str) -> None:
        environment = CONTENDERS[name].environment
        assert environment is not None
        started = time.perf_counter()
        try:
            program_of(environment)
            with self._serving([HEADRACE, name]) as cells:
                self.found.peers[name] = self._rounds(name, cells, self._options.peer_rounds)
        except (NotInstalled, NotServing, psycopg.Error) as reason:
            self.found.left_out[name] = str(reason)
            say(f"{name} is left out: {reason}")
        self.found.seconds[name] = round(time.perf_counter() - started, 1)

    @contextmanager
    def _serving(self, names: Sequence[str]) -> Iterator[list[Cells]]:
        """All of them, warmed up, their databases analyzed."""
        with ExitStack() as stack:
            cells = []
            for name in names:
                say(f"starting {name}")
                folder = Path(stack.enter_context(TemporaryDirectory(prefix="headrace-compare-")))
                place = Place(self._admin_url, folder, self._options.processes)
                served = stack.enter_context(CONTENDERS[name].serve(place))
                cells.append(Cells(CONTENDERS[name], served, self._options))
            yield cells

    def _rounds(self, said: str, cells: Sequence[Cells], count: int) -> Samples:
        found: dict[str, dict[str, list[HttpSample]]] = defaultdict(lambda: defaultdict(list))
        for workload in WORKLOADS:
            able = [one for one in cells if workload in one.contender.workloads]
            missing = len(able) < len(cells) and said != "own"
            if workload not in self._options.workloads or missing or not able:
                continue
            able = self._warmed(workload, able)
            for number in range(count):
                say(f"{said}, {workload}: round {number + 1}/{count}")
                turn = number % max(1, len(able))
                for one in able[turn:] + able[:turn]:
                    self._one(one, workload, found[workload][one.contender.name])
        return {
            workload: {name: samples for name, samples in by_name.items() if len(samples) == count}
            for workload, by_name in found.items()
        }

    def _warmed(self, workload: str, cells: Sequence[Cells]) -> list[Cells]:
        """Those that can do it; with tables whose plans know their size."""
        able = []
        for one in cells:
            try:
                one.warm_up(workload, seconds=self._options.warm_up_seconds)
                one.analyze()
                one.warm_up(workload, seconds=self._options.warm_up_seconds / 2)
            except NotMeasured as reason:
                self._leave_out(one, reason)
            else:
                able.append(one)
        return able

    def _one(self, cells: Cells, workload: str, samples: list[HttpSample]) -> None:
        try:
            samples.append(cells.measure(workload))
            say(f"  {cells.contender.name}: {samples[-1].per_second:.1f}/s")
        except NotMeasured as reason:
            self._leave_out(cells, reason)

    def _leave_out(self, cells: Cells, reason: NotMeasured) -> None:
        name = cells.contender.name
        before = self.found.left_out.get(name)
        if before is None:
            self.found.left_out[name] = str(reason)
        elif str(reason) not in before:
            self.found.left_out[name] = f"{before}; {reason}"
        say(f"{name}: {reason}")

    def _statements(self, headrace: Cells) -> None:
        for workload in _STATEMENTS_OF:
            if workload not in self._options.workloads:
                continue
            time.sleep(_COUNTED_SECONDS)
            counted = headrace.statements()
            headrace.measure(workload)
            time.sleep(_COUNTED_SECONDS)
            if per_run := counted.per_run():
                self.found.statements[workload] = per_run

    def _lone(self, headrace: Cells, tutorial: Cells) -> None:
        """In parts, so that there is a spread."""
        say("lone runs, in turn")
        names = (HEADRACE, TUTORIAL)
        for _ in range(self._options.lone_parts):
            script = Alternating(names, tutorial.port, self._options.lone_pairs)
            try:
                outcome = drive(Load(headrace.port, script, connections=1, seconds=_LONE_SECONDS))
            except LoadFailed as error:
                self.found.left_out[HEADRACE] = f"lone runs: {error}"
                return
            for name in names:
                p50 = spread(outcome.notes[name])["median"] * 1000
                self.found.lone.setdefault(name, []).append(p50)


def say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()
