"""Runs the ``headrace`` command as users do."""

import os
import subprocess
import sys
from pathlib import Path

import headrace

_SOURCE = Path(headrace.__file__).parents[1]


def environment(database_url: str, **changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "HEADRACE" not in name}
    return {**kept, "PYTHONPATH": str(_SOURCE), "DATABASE_URL": database_url, **changes}


def start_headrace(*arguments: str, database_url: str, **changes: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "headrace", *arguments],
        env=environment(database_url, **changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_headrace(
    *arguments: str, database_url: str, folder: Path | None = None, **changes: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "headrace", *arguments],
        env=environment(database_url, **changes),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
