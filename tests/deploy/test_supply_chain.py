"""The audit tells advisories from a service without an answer; the SBOM is that of the lock."""

import json
import re
import sys
from pathlib import Path

import pytest

from deploy.supply_chain.audit import LOCKS, main
from tests.support.sources import ROOT

FINE = {"dependencies": [{"name": "alembic", "version": "1.20", "vulns": []}]}
BAD = {
    "dependencies": [
        {
            "name": "alembic",
            "version": "1.20",
            "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.21"]}],
        },
        {"name": "mine", "skip_reason": "not on PyPI"},
    ]
}


def fake(folder: Path, said: str, *, code: int = 0, error: str = "") -> list[str]:
    """A command in place of pip-audit."""
    script = folder / "pip_audit.py"
    script.write_text(
        f"import sys\nsys.stdout.write({said!r})\nsys.stderr.write({error!r})\nsys.exit({code})\n"
    )
    return [sys.executable, str(script)]


def test_nothing_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(fake(tmp_path, json.dumps(FINE))) == 0
    assert capsys.readouterr().err.count("1 packages, 0 with advisories") == len(LOCKS)


def test_an_advisory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(fake(tmp_path, json.dumps(BAD), code=1)) == 1
    said = capsys.readouterr().err
    assert "alembic 1.20: PYSEC-1, mended by 1.21" in said
    assert "nobody knows mine" in said


def test_a_service_that_cannot_be_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = fake(tmp_path, "", code=1, error="Traceback\nConnectionError: no route\n")
    assert main(failed) == 2
    said = capsys.readouterr().err
    assert "not audited, because the advisory service gave no answer" in said
    assert "ConnectionError: no route" in said


def test_the_sbom_has_what_the_image_has() -> None:
    document = json.loads((ROOT / "deploy/docker/sbom.cdx.json").read_text())
    assert document["bomFormat"] == "CycloneDX"
    listed = {(one["name"].lower(), one["version"]) for one in document["components"]}
    lock = (ROOT / "requirements.lock").read_text()
    locked = {
        (name.lower(), version)
        for name, version in re.findall(
            r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", lock, re.MULTILINE
        )
    }
    assert listed == locked, "run `make sbom`"
    # Written again, it is the same: no time and no random number.
    assert "timestamp" not in document["metadata"]
    assert "serialNumber" not in document
