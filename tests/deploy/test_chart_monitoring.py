"""What the chart gives to the Prometheus operator and to Grafana's sidecar."""

import gzip
import json
from base64 import b64encode
from pathlib import Path

import pytest

from tests.deploy.chart import CHART, Refused, Rendered, render
from tests.deploy.expressions import DASHBOARDS
from tests.deploy.tools import HERE

MONITORED = HERE / "values" / "monitored.yaml"
SECRET = HERE / "values" / "secret.yaml"
_MEBIBYTE = 1024 * 1024


def dashboards(rendered: Rendered) -> dict[str, str]:
    """File name to JSON, of all ConfigMaps."""
    found: dict[str, str] = {}
    for document in rendered.all("ConfigMap"):
        found |= document["data"]
    return found


def test_each_dashboard_is_a_config_map_of_its_own(each_helm: Path) -> None:
    rendered = render(each_helm, MONITORED)
    assert {name: json.loads(text) for name, text in dashboards(rendered).items()} == {
        f"headrace-{path.name}": json.loads(path.read_text()) for path in DASHBOARDS.glob("*.json")
    }
    for document in rendered.all("ConfigMap"):
        assert len(document["data"]) == 1
        assert len(json.dumps(document)) < _MEBIBYTE
        assert document["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert document["metadata"]["annotations"] == {"grafana_folder": "headrace"}
        assert len(document["metadata"]["name"]) <= 253


def test_the_sidecar_may_look_for_another_label(helm4: Path) -> None:
    rendered = render(helm4, MONITORED, metrics__dashboards__labels={"folder": "1"})
    for document in rendered.all("ConfigMap"):
        assert document["metadata"]["labels"]["folder"] == "1"


def test_there_are_none_unless_asked_for(helm4: Path) -> None:
    rendered = render(helm4, SECRET)
    assert not rendered.all("ConfigMap")
    assert not rendered.all("PodMonitor")


def test_helm_can_keep_the_release() -> None:
    """helm stores chart and manifest of a release, compressed, in one Secret."""
    files = b"".join(path.read_bytes() for path in CHART.rglob("*") if path.is_file())
    assert len(b64encode(gzip.compress(files + files))) < _MEBIBYTE / 4


@pytest.mark.parametrize(("port", "name"), [(9123, "metrics"), (0, "http")])
def test_the_pod_monitor_asks_a_port_that_the_pods_name(helm4: Path, port: int, name: str) -> None:
    rendered = render(helm4, MONITORED, metrics__port=port)
    monitor = rendered.one("PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": name, "path": "/metrics", "interval": "20s"}
    (container,) = rendered.pod("Deployment")["containers"]
    assert name in {one["name"] for one in container["ports"]}
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_the_pod_monitor_selects_the_servers(helm4: Path) -> None:
    rendered = render(helm4, MONITORED)
    selected = rendered.one("PodMonitor")["spec"]["selector"]["matchLabels"]
    pods = rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert selected.items() <= pods.items()
    job = rendered.one("Job")["spec"]["template"]["metadata"].get("labels", {})
    assert not selected.items() <= job.items()


def test_two_monitors_are_refused_with_a_sentence(each_helm: Path) -> None:
    with pytest.raises(Refused) as refused:
        render(each_helm, MONITORED, metrics__serviceMonitor__enabled=True)
    assert (
        "metrics: metrics.serviceMonitor.enabled and metrics.podMonitor.enabled would each have the"
        " pods scraped, and all figures would count twice. Keep one." in str(refused.value)
    )
