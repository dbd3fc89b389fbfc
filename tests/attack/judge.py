"""What a row came to, and whether anything was let through. Pure."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.attack.neighbour import Call
from tests.attack.tally import Tally

MAX_P99_SECONDS = 1.0
#: A machine that is slow before the attack is slow in it, too.
_MAX_P99_OF_QUIET = 4.0
MAX_MEMORY_BYTES = 10**9
MAX_HEALTH_SECONDS = 1.0


@dataclass(slots=True)
class Facts:
    """What was seen of a row, by the attacker, the neighbour and the watch."""

    number: int
    what: str
    tally: Tally
    #: The neighbour's calls before the attack, and from its start to the end of the recovery.
    before: Sequence[Call] = ()
    during: Sequence[Call] = ()
    most_memory: int = 0
    restarts: int = 0
    watchdog_kills: int = 0
    slowest_health: float = 0.0
    #: Whether that is judged.
    health: bool = False
    #: The server did not answer /readyz with 200 after the recovery, or the like.
    aftermath: list[str] = field(default_factory=list)


def p99(calls: Sequence[Call]) -> float:
    """Seconds; the next higher call where it falls between two. Infinite where there is none."""
    if not calls:
        return math.inf
    ordered = sorted(call.seconds for call in calls)
    return ordered[math.ceil(0.99 * len(ordered)) - 1]


def _max_p99(facts: Facts) -> float:
    quiet = p99(facts.before) if facts.before else 0.0
    return max(MAX_P99_SECONDS, _MAX_P99_OF_QUIET * quiet)


def let_through(facts: Facts) -> Counter[str]:
    """Sentences, with how often each; empty where the server held."""
    found = Counter(facts.tally.let_through)
    if not facts.tally.tried:
        found["nothing was tried"] += 1
    for call in facts.during:
        if call.failure:
            failure = " ".join(call.failure.split())[:160]
            found[f"the neighbour's {call.name} failed: {failure}"] += 1
    for calls, when in ((facts.before, "before"), (facts.during, "in")):
        if not calls:
            found[f"the neighbour made no call {when} the attack"] += 1
    if facts.during and (slow := p99(facts.during)) > _max_p99(facts):
        found[f"the neighbour's p99 was {slow:.2f} s"] += 1
    if facts.most_memory > MAX_MEMORY_BYTES:
        found[f"a process had {facts.most_memory / 1e6:.0f} MB"] += 1
    if facts.restarts:
        found["a process was replaced"] += facts.restarts
    if facts.watchdog_kills:
        found["the watchdog killed a process"] += facts.watchdog_kills
    if facts.health and facts.slowest_health > MAX_HEALTH_SECONDS:
        found[f"/livez took {facts.slowest_health:.1f} s"] += 1
    found.update(facts.aftermath)
    return found
