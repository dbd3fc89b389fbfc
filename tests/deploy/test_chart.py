"""What the chart renders: the same by both majors of helm, as reviewed, valid for Kubernetes.

``UPDATE_GOLDEN=1`` writes the files under ``golden/`` anew.
"""

import os
import re
import subprocess
from pathlib import Path
from textwrap import indent

import pytest

from tests.deploy.chart import CHART, EXAMPLES, identity, render
from tests.deploy.expressions import DASHBOARDS
from tests.deploy.generate import PLAIN
from tests.deploy.tools import HERE, helm, kubernetes_validate

VALUES = {
    **{path.stem: path for path in sorted((HERE / "values").glob("*.yaml"))},
    "cloudnativepg": EXAMPLES / "cloudnativepg-values.yaml",
}
GOLDEN = HERE / "golden"
_RANDOM = "UkFORE9N"  # RANDOM; the key is another one at each rendering
#: The oldest that the chart takes, and the newest whose schemas we have.
KUBERNETES = ("1.30", "1.37")

each_values = pytest.mark.parametrize("name", VALUES)


def rendered(helm: Path, name: str) -> str:
    """Without what changes at each rendering, and without the dashboards' own text."""
    text = render(helm, VALUES[name]).text
    for path in sorted(DASHBOARDS.glob("*.json")):
        whole = indent(path.read_text().rstrip("\n"), "    ")
        text = text.replace(whole, f"    (deploy/grafana/dashboards/{path.name})")
    return re.sub(r"(?<=api-keys: )[A-Za-z0-9+/=]{40,}$", _RANDOM, text, flags=re.MULTILINE)


def test_lint_finds_nothing(each_helm: Path) -> None:
    done = subprocess.run(
        [each_helm, "lint", "--strict", CHART, "--values", VALUES["full"]],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@each_values
def test_it_renders_what_was_reviewed(helm4: Path, name: str) -> None:
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        golden.write_text(rendered(helm4, name))
    assert rendered(helm4, name) == golden.read_text(), "wanted? UPDATE_GOLDEN=1 make test-deploy"


@each_values
def test_both_majors_of_helm_render_the_same(name: str) -> None:
    three, four = (render(helm(major), VALUES[name]) for major in (3, 4))
    assert [identity(d) for d in three.documents] == [identity(d) for d in four.documents]
    random = {("Secret", "my-headrace-api-keys")}
    assert [d for d in three.documents if identity(d) not in random] == [
        d for d in four.documents if identity(d) not in random
    ]


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(version: str) -> None:
    """Unknown kinds, of operators, are only warned of and not looked at."""
    files = [*GOLDEN.glob("*.yaml"), *PLAIN.glob("*.yaml")]
    done = subprocess.run(
        [kubernetes_validate(), "-k", version, "--strict", *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    unknown = set(re.findall(r"find schema for kind (\w+)", done.stdout + done.stderr))
    assert unknown == {"PodMonitor", "PrometheusRule", "ServiceMonitor"}


def test_a_misspelled_field_would_be_found(tmp_path: Path) -> None:
    text = (PLAIN / "deployment.yaml").read_text()
    wrong = tmp_path / "deployment.yaml"
    wrong.write_text(text.replace("readinessProbe:", "readynessProbe:"))
    assert wrong.read_text() != text
    done = subprocess.run(
        [kubernetes_validate(), "-k", KUBERNETES[-1], "--strict", wrong], capture_output=True
    )
    assert done.returncode == 1
