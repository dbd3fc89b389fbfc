"""A master that tests fork is, for what they ask it, one that was started as a program."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.masters import ForkedMaster, Master, start_master
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

APPLICATION = """
import json, os, resource, sys

def app(environ, start_response):
    return []

found = {
    "environment": dict(os.environ),
    "argv": sys.argv,
    "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "pid": os.getppid(),
    "files": sorted(os.path.realpath(f"/proc/self/fd/{number}") for number in (0, 1, 2)),
}
print(json.dumps(found), flush=True)
"""


def start(folder: Path, *, application: str = "asked:app", **environment: str) -> Master:
    (folder / "asked.py").write_text(APPLICATION)
    arguments = ["--bind=127.0.0.1:0", f"--pythonpath={folder}", "--workers=1", application]
    given = {**os.environ, **environment}
    return start_master(arguments, given, folder / "log", open_files=300)


def told(folder: Path) -> dict[str, Any]:
    def lines() -> list[str]:
        log = (folder / "log").read_text() if (folder / "log").exists() else ""
        return [line for line in log.splitlines(keepends=True) if line.startswith("{")]

    wait_until(lambda: lines() and lines()[0].endswith("\n"), seconds=90)
    found: dict[str, Any] = json.loads(lines()[0])
    return found


@pytest.mark.parametrize(
    ("environment", "kind"),
    [({"HEADRACE_PORT": "1"}, ForkedMaster), ({"PYTHONWARNINGS": "ignore"}, subprocess.Popen)],
)
def test_a_master_has_what_it_was_given(tmp_path, environment, kind):
    """What may change an import is given to a new program."""
    master = start(tmp_path, **environment)
    try:
        assert isinstance(master, kind)
        found = told(tmp_path)
        assert found["environment"].items() >= environment.items()
        assert "PROMETHEUS_MULTIPROC_DIR" not in found["environment"]
        assert Path(found["argv"][0]).name == "preloaded_gunicorn.py"
        assert found["argv"][-1] == "asked:app"
        assert found["open_files"] == [300, 300]
        assert found["pid"] == master.pid
        assert str(tmp_path / "log") in found["files"]
        assert master.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            master.wait(0)
        master.terminate()
        assert master.wait(60) == 0
    finally:
        master.kill()


def test_how_a_forked_master_ended_is_told(tmp_path):
    first = start(tmp_path, application="missing:app")
    assert first.wait(60) == 3
    (tmp_path / "log").unlink()
    second = start(tmp_path)
    told(tmp_path)
    second.kill()
    assert second.wait(60) == -signal.SIGKILL
    assert first.poll() == 3
