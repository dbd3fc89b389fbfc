"""``deploy/compose.yaml``, as docker compose itself reads it, and what it promises."""

import json
import os
import subprocess
from functools import cache
from typing import Any

import pytest
import yaml

from headrace.settings import Settings
from tests.deploy.tools import docker_compose
from tests.support.sources import ROOT
from tests.support.tools import require_tool

COMPOSE = ROOT / "deploy" / "compose.yaml"
PROMETHEUS = ROOT / "deploy" / "prometheus" / "prometheus.yml"


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
    assert job["static_configs"] == [{"targets": [f"app:{Settings().port}"]}]
    mounts = services()["prometheus"]["volumes"]
    assert str(PROMETHEUS) in [mount["source"] for mount in mounts]


@pytest.mark.deploy_tools
def test_prometheus_takes_its_configuration() -> None:
    promtool = require_tool("promtool", remedy="make ci-tools")
    done = subprocess.run([promtool, "check", "config", PROMETHEUS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
