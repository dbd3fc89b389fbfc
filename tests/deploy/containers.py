"""Builds and runs images with buildah and podman, without an engine and in a storage of its own.

Packages come as the machine's own pip would get them. The base is Debian's Python, made by
mmdebstrap (see the Makefile) to stand in for ``python:3.11-slim-bookworm``; ``TEST_IMAGE_BASE``
names a real one to pull.
"""

import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.deploy.tools import TOOLS
from tests.support.sources import ROOT
from tests.support.tools import require_tool
from tests.support.trust import registry_environment
from tests.support.waiting import wait_until

STAND_IN = "localhost/python-stand-in"
#: The same as a file; the Makefile knows how it is made.
STAND_IN_ARCHIVE = TOOLS / "python-stand-in.tar"

#: What a cluster allows: nothing. /tmp and the runtime directory are memory.
CONFINED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--tmpfs=/tmp",
    "--tmpfs=/run/headrace",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=512m",
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1000:1000",
    "--network=host",
    "--no-healthcheck",
)

Done = subprocess.CompletedProcess[str]


class Containers:
    """One storage, with what is built and run in it."""

    def __init__(self, folder: Path) -> None:
        tools = {
            name: require_tool(name, remedy="make ci-tools")
            for name in ("buildah", "podman", "runc", "mmdebstrap")
        }
        if os.geteuid() != 0:
            pytest.skip("building without an engine needs root here")
        storage = ["--root", str(folder / "root"), "--runroot", str(folder / "run")]
        storage += ["--storage-driver", _storage_driver(folder)]
        runtime = ["--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime=runc"]
        self._folder = folder
        self._podman = [tools["podman"], *storage, *runtime]
        self._buildah = [tools["buildah"], *storage]

    def podman(self, *arguments: str) -> Done:
        return subprocess.run(
            [*self._podman, *arguments],
            env=registry_environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )

    def base(self) -> str:
        """The image that others are built from."""
        if real := os.environ.get("TEST_IMAGE_BASE"):
            _succeeded(self.podman("pull", real))
            return real
        command = ["make", "--silent", str(STAND_IN_ARCHIVE.relative_to(ROOT))]
        environment = registry_environment()
        _succeeded(
            subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        )
        _succeeded(self.podman("import", str(STAND_IN_ARCHIVE), STAND_IN))
        return STAND_IN

    def build(self, tag: str, context: Path, *, file: Path | None = None, **arguments: str) -> Done:
        command = [*self._buildah, "bud", "--isolation=chroot", "--format=docker", "--pull-never"]
        pips_own = [Path("/etc/ssl/certs"), Path("/etc/pip.conf")]
        command += [f"--volume={place}:{place}:ro" for place in pips_own if place.exists()]
        command += [f"--build-arg={name}={value}" for name, value in arguments.items()]
        command += ["--file", str(file or context / "Dockerfile"), "--tag", tag, str(context)]
        started = time.monotonic()
        done = subprocess.run(
            command, env=registry_environment(), capture_output=True, text=True, timeout=600
        )
        print(f"\nbuild of {tag}: exit {done.returncode} in {time.monotonic() - started:.0f} s")
        return done

    def built(self, tag: str, context: Path, *, file: Path | None = None, **arguments: str) -> str:
        _succeeded(self.build(tag, context, file=file, **arguments))
        return tag

    def once(self, image: str, *command: str, **environment: str) -> Done:
        """One command of the image's, to its end; without one, its own."""
        return self.podman("run", "--rm", *CONFINED, *_variables(environment), image, *command)

    def create(self, image: str, *options: str, **environment: str) -> "Container":
        done = self.podman("create", *CONFINED, *options, *_variables(environment), image)
        return Container(self, _succeeded(done).stdout.strip())

    def remove(self) -> None:
        self.podman("rm", "--all", "--force", "--time=0")
        self.podman("rmi", "--all", "--force")
        with suppress(OSError):
            shutil.rmtree(self._folder)


class Container:
    """One that runs in the background."""

    def __init__(self, containers: Containers, name: str) -> None:
        self._podman = containers.podman
        self._name = name

    def start(self) -> None:
        _succeeded(self._podman("start", self._name))

    def execute(self, *command: str) -> Done:
        return self._podman("exec", self._name, *command)

    def processes(self) -> list[str]:
        """The command of each."""
        lines = _succeeded(self._podman("top", self._name, "args")).stdout.splitlines()
        return [line.strip() for line in lines[1:]]

    def log(self) -> str:
        done = self._podman("logs", self._name)
        return done.stdout + done.stderr

    def stop(self, *, seconds: int) -> int:
        """As ``podman stop`` does, which kills after ``seconds``; the exit code."""
        _succeeded(self._podman("stop", f"--time={seconds}", self._name))
        code = _succeeded(self._podman("inspect", "--format={{.State.ExitCode}}", self._name))
        return int(code.stdout)

    def wait_ready(self, url: str) -> None:
        try:
            wait_until(lambda: _ready(url), seconds=60)
        except BaseException:
            print(self.log())
            raise


def _storage_driver(folder: Path) -> str:
    """overlay, which copies nothing, where the kernel and this file system take it; else vfs."""
    layers = {name: folder / "probe" / name for name in ("lowerdir", "upperdir", "workdir")}
    merged = folder / "probe" / "merged"
    for place in (*layers.values(), merged):
        place.mkdir(parents=True)
    options = ",".join(f"{name}={place}" for name, place in layers.items())
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        return "vfs"
    subprocess.run(["umount", str(merged)], check=True)
    return "overlay"


def _ready(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    return False


def _variables(environment: dict[str, str]) -> list[str]:
    return [f"--env={name}={value}" for name, value in environment.items()]


def _succeeded(done: Done) -> Done:
    assert done.returncode == 0, f"{done.args}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done
