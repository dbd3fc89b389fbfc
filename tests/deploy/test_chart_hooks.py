"""What helm makes of the migration's hooks, seen from a Kubernetes API that only remembers."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.chart import CHART, NAMESPACE
from tests.deploy.kube_stub import KubeStub, kube_stub

COPY = "my-headrace-migration"


class Release:
    def __init__(self, helm: Path, stub: KubeStub, config: Path) -> None:
        self._helm = helm
        self.stub = stub
        own = {"KUBECONFIG": str(config), "HOME": str(config.parent)}
        self._environment = {**os.environ, **own}

    def __call__(self, command: str, *more: str | Path, migration_fails: bool = False) -> str:
        """What helm prints; the empty text when it fails as the migration does."""
        self.stub.jobs_fail = migration_fails
        done = subprocess.run(
            [self._helm, command, "my", *more, f"--namespace={NAMESPACE}", "--timeout=30s"],
            env=self._environment,
            capture_output=True,
            text=True,
        )
        assert (done.returncode != 0) == migration_fails, done.stderr
        if migration_fails:
            assert "migration" in done.stderr
        return done.stdout

    def deploy(self, command: str, *, migration_fails: bool = False) -> None:
        url = "--set=database.url=postgresql://user:secret@host/database"
        options: list[str | Path] = [CHART, url, "--disable-openapi-validation"]
        self(command, *options, migration_fails=migration_fails)


@pytest.fixture
def release(each_helm: Path, tmp_path: Path) -> Iterator[Release]:
    with kube_stub(tmp_path) as (stub, config):
        yield Release(each_helm, stub, config)


def test_no_copy_of_the_database_url_stays_behind(release: Release) -> None:
    # helm 3.17, which is tested here, deletes what came before a failed hook with the next attempt.
    at_once = "helm-4" in str(release._helm)
    release.deploy("install", migration_fails=True)
    assert "my-headrace-database" not in release.stub.names("secrets")
    assert not (at_once and COPY in release.stub.names("secrets"))
    assert COPY in release.stub.names("jobs"), "its log says why it failed"

    release.deploy("upgrade")
    assert "my-headrace-database" in release.stub.names("secrets")
    assert COPY not in release.stub.names("secrets") | release.stub.names("jobs")

    release.deploy("upgrade", migration_fails=True)
    assert not (at_once and COPY in release.stub.names("secrets"))
    release("uninstall")
    assert release.stub.names("secrets") == {"my-headrace-api-keys"}
