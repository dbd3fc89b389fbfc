"""What is written from the chart, and what stands beside it, agrees with it."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart import CHART, EXAMPLES, Refused, names_used, render
from tests.deploy.generate import (
    PLAIN,
    README,
    plain_manifests,
    values_table,
    with_values_table,
)
from tests.support.sources import ROOT


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_the_plain_manifests_are_what_the_chart_renders(helm4: Path) -> None:
    there = {path.name: path.read_text() for path in PLAIN.iterdir()}
    assert there == plain_manifests(helm4), "run: make manifests"


def test_the_plain_manifests_need_one_secret_that_they_name() -> None:
    """No hook, nothing of helm's, and no Secret of their own."""
    for path in PLAIN.iterdir():
        text = path.read_text()
        assert "helm.sh/" not in text, path.name
        assert "kind: Secret" not in text, path.name
        used = {name for kind, name in names_used(yaml.safe_load(text)) if kind == "Secret"}
        assert used <= {"headrace"}, path.name
        assert ("kubectl create secret generic headrace " in text) == bool(used), path.name


def test_the_readmes_table_is_what_the_schema_says() -> None:
    readme = README.read_text()
    assert "`database.existingSecret`" in readme
    assert with_values_table(readme) == readme, "run: make manifests"


def test_the_chart_is_of_this_release() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = load(CHART / "Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_the_cloudnativepg_example_fits_together(helm4: Path) -> None:
    cluster = load(EXAMPLES / "cloudnativepg-cluster.yaml")
    values = EXAMPLES / "cloudnativepg-values.yaml"
    allowed = int(cluster["spec"]["postgresql"]["parameters"]["max_connections"])
    assert load(values)["database"]["maxConnections"] == allowed
    url = render(helm4, values).environment("Deployment")["HEADRACE_DATABASE__URL"]
    assert url["valueFrom"]["secretKeyRef"] == {
        "name": f"{cluster['metadata']['name']}-app",
        "key": "uri",
    }


@pytest.mark.parametrize("path", [README, ROOT / "docs" / "deploy.md"], ids=lambda path: path.name)
def test_the_pages_name_values_and_files_that_are_there(path: Path) -> None:
    text = path.read_text()
    known = set(re.findall(r"^\| `([\w.]+)` \|", values_table(), flags=re.MULTILINE))
    named = set(re.findall(r"--set ([\w.]+)=", text))
    groups = "|".join({value.split(".")[0] for value in known if "." in value})
    named |= set(re.findall(rf"`((?:{groups})\.(?!yaml)[\w.]+)`", text))
    assert named
    assert named <= known
    for name in re.findall(r"deploy/[\w./-]+", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (path.parent / name).exists(), name


def test_the_page_adds_up_as_the_chart_does(helm4: Path) -> None:
    """Seconds and connections that docs/deploy.md shows are those of the defaults."""
    page = (ROOT / "docs" / "deploy.md").read_text()
    rendered = render(helm4, database__existingSecret="my-database", database__maxConnections=92)
    period = rendered.pod("Deployment")["terminationGracePeriodSeconds"]
    assert f"| {period} | `terminationGracePeriodSeconds` |" in page
    assert f"the pod's termination period ({period})" in page
    assert "4 x 2 x 10 + 2 + 10 = 92 of the 100" in page
    with pytest.raises(Refused):
        render(helm4, database__existingSecret="my-database", database__maxConnections=91)


@pytest.mark.parametrize("path", [README, ROOT / "docs" / "deploy.md"], ids=lambda path: path.name)
def test_the_commands_that_the_pages_give_work(each_helm: Path, path: Path) -> None:
    """As far as they can without a cluster: with the values that they set, the chart renders."""
    commands = re.findall(
        r"^    helm (?:install|upgrade|template) headrace deploy/helm/headrace (.*)$",
        path.read_text(),
        flags=re.MULTILINE,
    )
    assert commands
    for command in commands:
        options = re.findall(r"(?:--set|-f) \S+", command)
        options += (
            ["--set database.existingSecret=x"] if "--reset-then-reuse-values" in command else []
        )
        done = subprocess.run(
            [each_helm, "template", "headrace", CHART, *" ".join(options).split()],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        too_many = "above database.maxConnections" in done.stderr
        assert done.returncode == 0 or ("replicas=5" in command and too_many), done.stderr
