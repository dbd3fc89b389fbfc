"""What is compared, how often, with whom. Read from COMPARE_* in the environment."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from loadtests.compare.contenders import CEILING, CONTENDERS, HEADRACE, TUTORIAL
from loadtests.compare.workloads import WORKLOADS
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
    #: Pairs of lone runs; 0 leaves them out.
    lone_pairs: int
    connections: int = 32
    processes: int = 2
    #: Of a floor that is enough: short measurements are less certain.
    share: float = 1.0
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
        lone_pairs=400,
    ),
    "short": CompareOptions(
        profile="short",
        rounds=2,
        peer_rounds=1,
        seconds=0.7,
        warm_up_seconds=0.6,
        settle_seconds=0.2,
        lone_pairs=60,
        share=0.7,
        contenders=(HEADRACE, TUTORIAL, CEILING),
        workloads=("wait", "stream"),
        whole=False,
    ),
}


def options_from(environ: Mapping[str, str]) -> CompareOptions:
    """The profile that COMPARE_PROFILE names, with what the other COMPARE_* change.

    :raises ValueError: with a sentence about the variable that cannot be.
    """
    name = environ.get("COMPARE_PROFILE") or "full"
    if name not in PROFILES:
        raise ValueError(f"COMPARE_PROFILE={name}: there are {' and '.join(PROFILES)}.")
    default = PROFILES[name]
    rounds = _count(environ, "COMPARE_ROUNDS")
    found = replace(
        default,
        rounds=rounds or default.rounds,
        peer_rounds=rounds or default.peer_rounds,
        seconds=_seconds(environ, "COMPARE_SECONDS") or default.seconds,
        connections=_count(environ, "COMPARE_CONNECTIONS") or default.connections,
        processes=_count(environ, "COMPARE_PROCESSES") or default.processes,
        contenders=_names(environ, "COMPARE_CONTENDERS", CONTENDERS, default.contenders),
        workloads=_names(environ, "COMPARE_WORKLOADS", WORKLOADS, default.workloads),
        results=Path(environ.get("COMPARE_RESULTS") or RESULTS),
    )
    same = ("contenders", "workloads", "connections", "processes")
    complete = all(getattr(found, field) == getattr(default, field) for field in same)
    return replace(found, whole=default.whole and complete)


def _count(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{name}={text}: a whole number above 0 is needed.")
    return int(text)


def _seconds(environ: Mapping[str, str], name: str) -> float | None:
    text = environ.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}={text}: a number of seconds above 0 is needed.")
    return value


def _names(
    environ: Mapping[str, str], name: str, known: Collection[str], default: tuple[str, ...]
) -> tuple[str, ...]:
    """Those of ``known`` that the variable names, separated by commas."""
    wanted = [one.strip() for one in (environ.get(name) or "").split(",") if one.strip()]
    for one in wanted:
        if one not in known:
            raise ValueError(f"{name}={one}: there are {', '.join(known)}.")
    return tuple(one for one in known if one in wanted) if wanted else default
