"""Asks for advisories about the locked packages: ``make audit``. It needs the internet.

pip-audit also fails when it finds something, and without an answer it fails with a traceback. This
module tells the two apart: 0 nothing was found, 1 something was, 2 nothing was asked.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]

#: The locks of what runs, and of what is developed with.
LOCKS = ("requirements.lock", "requirements-run.lock", "requirements-dev.lock")


def main(command: Sequence[str], folder: Path = _ROOT) -> int:
    """
    :param command: pip-audit and more arguments for it.
    """
    codes = [_audit(command, folder / lock) for lock in LOCKS]
    return max(codes)


def _audit(command: Sequence[str], lock: Path) -> int:
    # Locks are complete, so pip need not resolve them again.
    arguments = ["--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    done = subprocess.run(  # noqa: S603 - our own arguments, no shell
        [*command, *arguments, "--format", "json", "--requirement", str(lock)],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        _tell(
            f"{lock.name}: not audited, because the advisory service gave no answer"
            f" ({lines[-1][:300]}). Run it where the internet can be reached, or name another"
            ' service: make audit AUDIT_ARGS="--vulnerability-service osv".'
        )
        return 2
    return _report(lock.name, found)


def _report(name: str, dependencies: Sequence[dict[str, Any]]) -> int:
    bad = [one for one in dependencies if one.get("vulns")]
    skipped = [one["name"] for one in dependencies if "skip_reason" in one]
    for one in bad:
        for advisory in one["vulns"]:
            fixed = ", ".join(advisory["fix_versions"]) or "no release"
            _tell(f"{name}: {one['name']} {one['version']}: {advisory['id']}, mended by {fixed}")
    if skipped:
        _tell(f"{name}: nobody knows {', '.join(skipped)}")
    packages = len(dependencies) - len(skipped)
    _tell(f"{name}: {packages} packages, {len(bad)} with advisories")
    return 1 if bad else 0


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
