"""``deploy/compose.yaml``, as docker compose itself reads it, and what it promises."""

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.settings import Settings
from tests.deploy.expressions import DASHBOARDS, RULES
from tests.deploy.tools import docker_compose
from tests.support.sources import ROOT
from tests.support.tools import require_tool

COMPOSE = ROOT / "deploy" / "compose.yaml"
PROMETHEUS = ROOT / "deploy" / "prometheus" / "prometheus.yml"
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"


@cache
def services(**environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [docker_compose(), "-f", COMPOSE, "config", "--format", "json"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], **environment},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


def mounted(name: str) -> dict[str, Path]:
    """Place in the container to place here."""
    return {mount["target"]: Path(mount["source"]) for mount in services()[name]["volumes"]}


def provisioned(kind: str) -> Any:
    """What Grafana finds in the only file of that kind."""
    (file,) = (
        here
        for there, here in mounted("grafana").items()
        if there.startswith(f"/etc/grafana/provisioning/{kind}/")
    )
    assert file == PROVISIONING / f"{kind}.yaml"
    return yaml.safe_load(file.read_text())


def test_the_app_waits_for_the_migration_and_that_for_the_database() -> None:
    assert services()["app"]["depends_on"]["migrate"]["condition"] == (
        "service_completed_successfully"
    )
    assert services()["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert "restart" not in services()["migrate"]


def test_every_service_that_stays_tells_its_health() -> None:
    for name, service in services().items():
        if name != "migrate":
            assert service["healthcheck"]["test"][0] == "CMD", name


@pytest.mark.parametrize("name", ["app", "migrate"])
def test_ours_write_nowhere_but_in_memory(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/run/headrace", "/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert "volumes" not in service


def test_the_stop_gives_the_drain_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    app = services()["app"]
    for name, value in app["environment"].items():
        monkeypatch.setenv(name, value)
    assert int(app["stop_grace_period"].rstrip("s")) > Settings().server.graceful_timeout_seconds


def test_only_this_machine_reaches_it() -> None:
    for name, service in services().items():
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", name


def test_secrets_come_from_the_environment() -> None:
    given = services(POSTGRES_PASSWORD="one", HEADRACE_API_KEYS="two", HEADRACE_IMAGE="mine:1")
    app = given["app"]
    assert app["environment"]["DATABASE_URL"] == "postgresql://headrace:one@postgres:5432/headrace"
    assert given["migrate"]["environment"] == {
        "DATABASE_URL": app["environment"]["DATABASE_URL"],
    }
    assert given["postgres"]["environment"]["POSTGRES_PASSWORD"] == "one"
    assert app["environment"]["HEADRACE_API_KEYS"] == "two"
    assert app["image"] == given["migrate"]["image"] == "mine:1"
    assert "laptop-only" not in json.dumps(given)


def test_prometheus_scrapes_the_app_where_it_listens() -> None:
    (job,) = yaml.safe_load(PROMETHEUS.read_text())["scrape_configs"]
    port = services()["app"]["environment"]["HEADRACE_METRICS__PORT"]
    assert job["static_configs"] == [{"targets": [f"app:{port}"]}]
    assert port not in [published["target"] for published in services()["app"]["ports"]]
    assert mounted("prometheus")["/etc/prometheus/prometheus.yml"] == PROMETHEUS


def test_prometheus_has_the_rules() -> None:
    named = yaml.safe_load(PROMETHEUS.read_text())["rule_files"]
    assert [PROMETHEUS.with_name(name) for name in named] == [RULES]
    assert mounted("prometheus")[f"/etc/prometheus/{RULES.name}"] == RULES
    assert RULES.exists()


def test_grafana_asks_that_prometheus() -> None:
    (source,) = provisioned("datasources")["datasources"]
    (port,) = services()["prometheus"]["ports"]
    assert source["url"] == f"http://prometheus:{port['target']}"
    assert source["type"] == "prometheus"
    scraped = yaml.safe_load(PROMETHEUS.read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped


def test_grafana_has_the_dashboards() -> None:
    (provider,) = provisioned("dashboards")["providers"]
    folder = provider["options"]["path"]
    assert mounted("grafana")[folder] == DASHBOARDS
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.startswith(folder)
    assert (DASHBOARDS / home.removeprefix(f"{folder}/")).exists()


def test_grafana_is_for_looking_alone() -> None:
    grafana = services()["grafana"]
    assert grafana["read_only"] is True
    assert grafana["cap_drop"] == ["ALL"]
    assert all(mount["read_only"] for mount in grafana["volumes"])
    assert grafana["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert grafana["environment"]["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert grafana["environment"]["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"


def test_others_images_are_of_one_release() -> None:
    for name in ("postgres", "prometheus", "grafana"):
        tag = services()[name]["image"].partition(":")[2]
        assert any(letter.isdigit() for letter in tag), name


@pytest.mark.deploy_tools
def test_prometheus_takes_its_configuration() -> None:
    promtool = require_tool("promtool", remedy="make ci-tools")
    done = subprocess.run([promtool, "check", "config", PROMETHEUS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
