"""What is written from the chart, and what stands beside it, agrees with it."""

import tomllib
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.chart import CHART, EXAMPLES, names_used, render
from tests.deploy.generate import PLAIN, README, plain_manifests, with_values_table
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
