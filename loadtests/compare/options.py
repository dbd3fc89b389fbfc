"""What is compared, how often, with whom. Read from COMPARE_* in the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from loadtests.compare.contenders import CEILING, CONTENDERS, HEADRACE, TUTORIAL
from loadtests.compare.workloads import WORKLOADS
from loadtests.measuring import variables
from loadtests.measuring.results import RESULTS


@dataclass(frozen=True)
class CompareOptions:
    """``whole`` is False for everything that leaves something out of the comparison."""

    profile: str
    rounds: int
    #: Of a peer of others, which stands beside headrace alone.
    peer_rounds: int
    seconds: float
    warm_up_seconds: float
    #: Before each measured time.
    settle_seconds: float
    #: Pairs of lone runs in each of so many parts.
    lone_pairs: int
    lone_parts: int = 3
    connections: int = 32
    processes: int = 2
    #: Of a floor that is enough: short measurements are less certain.
    share: float = 1.0
    #: If set, so much of a floor of requests per second is enough, and processor time is judged
    #: beside them: other work on the machine changes it far less.
    rate_share: float | None = None
    #: If a floor is missed, all is measured once more, and only that is judged.
    repeats: bool = False
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    workloads: tuple[str, ...] = tuple(WORKLOADS)
    results: Path = RESULTS
    whole: bool = True


PROFILES = {
    "full": CompareOptions(
        profile="full",
        rounds=5,
        peer_rounds=3,
        seconds=5.0,
        warm_up_seconds=2.0,
        settle_seconds=0.5,
        lone_pairs=133,
    ),
    "short": CompareOptions(
        profile="short",
        rounds=10,
        peer_rounds=1,
        seconds=0.4,
        warm_up_seconds=0.6,
        settle_seconds=0.1,
        lone_pairs=20,
        lone_parts=5,
        share=0.7,
        rate_share=0.5,
        repeats=True,
        contenders=(HEADRACE, TUTORIAL, CEILING),
        workloads=("wait", "stream"),
        whole=False,
    ),
}


def options_from(environ: Mapping[str, str]) -> CompareOptions:
    """The profile that COMPARE_PROFILE names, with what the other COMPARE_* change.

    :raises ValueError: with a sentence about the variable that cannot be.
    """
    default = PROFILES[variables.choice(environ, "COMPARE_PROFILE", PROFILES, "full")]
    found = replace(
        default,
        rounds=variables.count(environ, "COMPARE_ROUNDS", default.rounds),
        peer_rounds=variables.count(environ, "COMPARE_ROUNDS", default.peer_rounds),
        seconds=variables.number(environ, "COMPARE_SECONDS", default.seconds),
        connections=variables.count(environ, "COMPARE_CONNECTIONS", default.connections),
        processes=variables.count(environ, "COMPARE_PROCESSES", default.processes),
        contenders=variables.names(environ, "COMPARE_CONTENDERS", CONTENDERS, default.contenders),
        workloads=variables.names(environ, "COMPARE_WORKLOADS", WORKLOADS, default.workloads),
        results=Path(environ.get("COMPARE_RESULTS") or RESULTS),
    )
    same = ("contenders", "workloads", "connections", "processes")
    complete = all(getattr(found, field) == getattr(default, field) for field in same)
    return replace(found, whole=default.whole and complete)
