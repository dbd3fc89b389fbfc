"""The chart on a real cluster: where KUBECONFIG names one; else these tests are skipped.

The second test also needs the image, under the name in TEST_IMAGE (default
``headrace:0.1.0``), where the cluster finds it.
"""

import base64
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.chart import CHART
from tests.deploy.generate import PLAIN
from tests.deploy.tools import HERE, kubectl

pytestmark = pytest.mark.skipif(
    not os.environ.get("KUBECONFIG"),
    reason="KUBECONFIG names no cluster; this test needs a real one",
)

#: A Postgres that forgets all: for this test alone.
POSTGRES = """
apiVersion: v1
kind: Pod
metadata: {name: postgres, labels: {app: postgres}}
spec:
  containers:
    - name: postgres
      image: postgres:17
      env: [{name: POSTGRES_PASSWORD, value: postgres}]
      readinessProbe: {exec: {command: [pg_isready, -h, 127.0.0.1, -U, postgres]}}
---
apiVersion: v1
kind: Service
metadata: {name: postgres}
spec: {selector: {app: postgres}, ports: [{port: 5432}]}
"""
URL = "postgresql://postgres:postgres@postgres/postgres"


def run(*command: str | Path, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Kube:
    """kubectl in a namespace of the test's own."""

    tool: Path
    namespace: str

    def __call__(self, *command: str | Path, stdin: str | None = None) -> str:
        return run(self.tool, f"--namespace={self.namespace}", *command, stdin=stdin)


@pytest.fixture
def kube() -> Iterator[Kube]:
    kube = Kube(kubectl(), f"headrace-test-{uuid.uuid4().hex[:8]}")
    kube("create", "namespace", kube.namespace)
    yield kube
    kube("delete", "namespace", kube.namespace, "--wait=false")


@pytest.mark.parametrize(
    "manifests", [PLAIN, *(HERE / "golden" / f"{name}.yaml" for name in ("secret", "url", "open"))]
)
def test_the_cluster_would_take_it(kube: Kube, manifests: Path) -> None:
    kube("apply", "--server-side", "--dry-run=server", "--filename", manifests)


def test_install_upgrade_failure_rollback_uninstall(kube: Kube, each_helm: Path) -> None:
    repository, _, tag = os.environ.get("TEST_IMAGE", "headrace:0.1.0").rpartition(":")
    kube("apply", "--filename", "-", stdin=POSTGRES)
    kube("wait", "--for=condition=Ready", "pod/postgres", "--timeout=5m")
    kube("create", "secret", "generic", "db", f"--from-literal=database-url={URL}")

    def helm(*command: str | Path, values: str = "") -> str:
        given = f"database.existingSecret=db,image.repository={repository},image.tag={tag}{values}"
        options = [f"--set={given}", "--wait"] if command[0] in ("install", "upgrade") else []
        return run(each_helm, *command, f"--namespace={kube.namespace}", "--timeout=5m", *options)

    def key() -> str:
        path = "jsonpath={.data.api-keys}"
        return base64.b64decode(kube("get", "secret/headrace-api-keys", "-o", path)).decode()

    def revision() -> str:
        return kube("get", "deployment/headrace", "-o", "jsonpath={.metadata.generation}")

    helm("install", "headrace", CHART)
    first = key()
    answered = kube(
        *("exec", "deployment/headrace", "--", "python", "-c"),
        "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8123/readyz').status)",
    )
    assert answered.strip() == "200"
    assert kube("get", "jobs", "-o", "name") == "", "the hook's Job is gone when it has succeeded"

    helm("upgrade", "headrace", CHART, values=",processes=1")
    assert key() == first

    upgraded = revision()
    with pytest.raises(AssertionError, match="hook"):
        helm(
            *("upgrade", "headrace", CHART),
            values=",database.urlKey=missing,migration.activeDeadlineSeconds=20",
        )
    assert revision() == upgraded, "a migration that fails leaves the old pods alone"

    helm("rollback", "headrace", "1")
    kube("rollout", "status", "deployment/headrace", "--timeout=5m")
    assert key() == first

    helm("uninstall", "headrace")
    assert key() == first, "the key outlives the release"
