"""Locust beside a soak: its process, and what it found."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
_LOCUST = _ROOT / ".tools" / "load" / "bin" / "locust"
_PRINTED = "locust.log"


@dataclass(frozen=True)
class Outcome:
    """``code`` is Locust's exit code: 1 if a threshold is broken."""

    code: int
    requests: int
    failures: int
    #: Asked again after ``Retry-After``; not among the requests.
    refused: int
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: list[str]
    by_name: dict[str, dict[str, float]]
    client_cpu_seconds: float

    @property
    def refused_percent(self) -> float:
        """Refusals, as a part of everything that was sent."""
        sent = self.requests + self.refused
        return 100 * self.refused / sent if sent else 0.0

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def begin(url: str, folder: Path, *, requests: int, users: int | None) -> subprocess.Popen[bytes]:
    """Start Locust with the profile ``soak``.

    :raises FileNotFoundError: its environment is not made yet.
    """
    if not _LOCUST.exists():
        raise FileNotFoundError(f"{_LOCUST}: run make soak, which installs it")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LOAD_", "LOCUST_", "HEADRACE_"))
    }
    settings = {
        "LOAD_PROFILE": "soak",
        "LOAD_REQUESTS": str(requests),
        "LOAD_RESULTS": str(folder / "load"),
        **({} if users is None else {"LOAD_USERS": str(users)}),
    }
    with (folder / _PRINTED).open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - our own command
            [str(_LOCUST), "--config", "loadtests/locust.conf", "--host", url],
            cwd=_ROOT,
            env={**kept, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


def outcome_of(folder: Path, process: subprocess.Popen[bytes]) -> Outcome:
    """What a process that has ended has written.

    :raises ValueError: it has written nothing; with the end of what it printed.
    """
    written = sorted((folder / "load").glob("*-soak.json"))
    if not written:
        tail = (folder / _PRINTED).read_text(errors="replace")[-2000:]
        raise ValueError(f"Locust has written no result:\n{tail}")
    return outcome_from(json.loads(written[-1].read_text()), process.returncode)


def outcome_from(result: Mapping[str, Any], code: int) -> Outcome:
    """:param result: what Locust's report wrote."""
    # As strings: the modules that define them need Locust.
    refused = [one for one in result["entries"] if one["name"].endswith("refused")]
    entries = [
        one for one in result["entries"] if not one["name"].endswith(("first event", "refused"))
    ]
    overall = result["overall"]
    return Outcome(
        code=code,
        requests=sum(one["requests"] for one in entries),
        failures=overall["failures"],
        refused=sum(one["requests"] for one in refused),
        per_second=round(sum(one["per_second"] for one in entries), 1),
        p50_ms=overall["p50_ms"],
        p95_ms=overall["p95_ms"],
        p99_ms=overall["p99_ms"],
        errors=[
            f"failed {one['count']} x {one['type']} {one['name']}: {one['error']}"
            for one in result["failures"][:20]
        ]
        + [f"threshold broken: {one}" for one in result["thresholds_broken"]],
        by_name={
            f"{one['type']} {one['name']}": {
                key: one[key] for key in ("requests", "p50_ms", "p95_ms", "p99_ms")
            }
            for one in result["entries"]
        },
        client_cpu_seconds=result["client_cpu_seconds"],
    )
