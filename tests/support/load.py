"""Locust with a profile of the load test, and what it has found."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.sources import ROOT
from tests.support.tools import require_tool

#: For short forms of measurements: they take minutes together, so they run apart.
measuring = pytest.mark.skipif(not os.environ.get("TEST_LOAD"), reason="make test-load")

#: Of the developer's shell, these would change what is tested.
_OURS = ("LOAD_", "LOCUST_")


class Outcome(NamedTuple):
    code: int
    printed: str
    result: dict[str, Any]

    def entries(self, key: str) -> dict[str, int]:
        """One figure of each entry, by type and name."""
        return {f"{one['type']} {one['name']}": one[key] for one in self.result["entries"]}

    def errors(self) -> str:
        return "\n".join(f"{one['name']}: {one['error']}" for one in self.result["failures"])


def load(url: str, folder: Path, *, profile: str = "smoke", **settings: str) -> Outcome:
    """What `make load` runs, once its environment is there."""
    locust = require_tool(
        str(ROOT / ".tools/load/bin/locust"), remedy="make .tools/load/load.stamp"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    done = subprocess.run(
        [locust, "--config", "loadtests/locust.conf", "--host", url],
        cwd=ROOT,
        env={**kept, "LOAD_PROFILE": profile, "LOAD_RESULTS": str(folder / "results"), **settings},
        capture_output=True,
        text=True,
        timeout=90,
    )
    if not (folder / "results").exists():
        return Outcome(done.returncode, done.stdout + done.stderr, {})
    (written,) = (folder / "results").glob(f"*-{profile}.json")
    return Outcome(done.returncode, done.stdout + done.stderr, json.loads(written.read_text()))
