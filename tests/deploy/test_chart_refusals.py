"""Values that cannot work do not render; helm prints which, and what to change."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart import CHART, Refused, render

WITH_SECRET: dict[str, Any] = {"database__existingSecret": "my-database"}

#: Parts of Kubernetes' API that pass through; all else is closed.
PASSED_THROUGH = {
    "affinity",
    "global",
    "graphs.volume",
    "extraEnv[].valueFrom",
    "extraVolumes[]",
}


def refusal(helm: Path, **values: Any) -> str:
    with pytest.raises(Refused) as refused:
        render(helm, **values)
    return str(refused.value)


def test_no_database_secret(each_helm: Path) -> None:
    assert (
        "database: no Secret is named. Set database.existingSecret to a Secret that has the key"
        " database-url, or set database.url." in refusal(each_helm)
    )


def test_a_database_said_twice(helm4: Path) -> None:
    said = refusal(helm4, **WITH_SECRET, database__url="postgresql://host/database")
    assert "database: existingSecret is set, and url or migrationUrl too." in said


def test_a_budget_above_what_postgres_allows_shows_the_sum(each_helm: Path) -> None:
    said = refusal(each_helm, **WITH_SECRET, replicas=5, processes=4, database__poolMax=10)
    assert "10 pods (5 replicas, and those that a rolling upgrade adds) x 4 processes" in said
    assert "x (poolMax 10 + 2) + 2 for the migration + 10 reserved = 492" in said
    assert "above database.maxConnections 100" in said


@pytest.mark.parametrize(
    ("values", "connections"),
    [
        ({}, 2 * 2 * 2 * 10 + 2 + 10),
        ({"replicas": 0}, 2 + 10),
        ({"replicas": 10}, 20 * 2 * 10 + 2 + 10),
        ({"replicas": 10, "rollingUpdate__minReadySeconds": 85}, 20 * 2 * 10 + 2 + 10),
        ({"replicas": 10, "rollingUpdate__minReadySeconds": 86}, 12 * 2 * 10 + 2 + 10),
        ({"replicas": 1, "rollingUpdate__minReadySeconds": 86}, 2 * 2 * 10 + 2 + 10),
        ({"processes": 8, "database__poolMax": 3}, 4 * 8 * 5 + 2 + 10),
        ({"database__reservedConnections": 0}, 4 * 2 * 10 + 2),
    ],
)
def test_the_budget_to_the_connection(
    helm4: Path, values: dict[str, Any], connections: int
) -> None:
    render(helm4, **WITH_SECRET, **values, database__maxConnections=connections)
    said = refusal(helm4, **WITH_SECRET, **values, database__maxConnections=connections - 1)
    assert f"= {connections}, above database.maxConnections {connections - 1}." in said


def test_a_shutdown_that_would_be_cut_short(each_helm: Path) -> None:
    period = {"shutdown__terminationGracePeriodSeconds": 81}
    assert (
        "shutdown: terminationGracePeriodSeconds is 81 and has to be above 81 = preStopSeconds 5"
        " + drainDelaySeconds 5 + graceSeconds 60 + 2 x marginSeconds 5 + 1."
        in refusal(each_helm, **WITH_SECRET, **period)
    )
    render(each_helm, **WITH_SECRET, shutdown__terminationGracePeriodSeconds=82)


def test_a_drain_delay_that_no_probe_notices(helm4: Path) -> None:
    said = refusal(helm4, **WITH_SECRET, shutdown__drainDelaySeconds=4)
    assert "drainDelaySeconds is 4, and the readiness probe notices only after 4" in said
    render(helm4, **WITH_SECRET, shutdown__drainDelaySeconds=0)


def test_a_pool_that_the_server_would_refuse(helm4: Path) -> None:
    said = refusal(helm4, **WITH_SECRET, database__poolMin=9)
    assert "database: poolMin 9 is above poolMax 8." in said


@pytest.mark.parametrize("name", ["HEADRACE_PROCESSES", "HEADRACE_AUTH", "HEADRACE_API_KEYS"])
def test_a_variable_that_a_value_sets(helm4: Path, name: str) -> None:
    said = refusal(helm4, **WITH_SECRET, extraEnv=[{"name": name, "value": "none"}])
    assert f"extraEnv: the chart sets {name} itself" in said


def test_two_things_at_app(helm4: Path) -> None:
    graphs = {"graphs__existingConfigMap": "mine", "graphs__volume": {"emptyDir": {}}}
    assert "graphs: existingConfigMap and volume are both set" in refusal(
        helm4, **WITH_SECRET, **graphs
    )


def test_a_key_of_the_password_beside_a_url(helm4: Path) -> None:
    url = {"database__url": "postgresql://user:password@host/database"}
    assert "passwordKey is a key of existingSecret" in refusal(
        helm4, **url, database__passwordKey="password"
    )


def test_a_role_of_the_pods_without_an_owner(helm4: Path) -> None:
    said = refusal(helm4, **WITH_SECRET, database__serverRole="app")
    assert "Set migrationUrlKey, or migrationUrl beside url" in said


def test_a_secret_of_the_owner_without_its_key(helm4: Path) -> None:
    said = refusal(helm4, **WITH_SECRET, database__migrationSecret="owner")
    assert "Set migrationUrlKey to the key of the owner's URL" in said


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"service__type": "NodePort"}, "service.type NodePort"),
        ({"service__type": "LoadBalancer"}, "service.type LoadBalancer"),
        ({"ingress__enabled": True, "ingress__hosts": ["agents.example.org"]}, "ingress.enabled"),
    ],
)
def test_nobody_outside_of_the_cluster_is_let_in_without_a_key(
    helm4: Path, values: dict[str, Any], where: str
) -> None:
    said = refusal(helm4, **WITH_SECRET, auth__mode="none", **values)
    assert f"auth: mode none lets everybody in, and {where} opens" in said
    render(helm4, **WITH_SECRET, **values)
    render(helm4, **WITH_SECRET, auth__mode="none")


def test_an_ingress_without_a_host(helm4: Path) -> None:
    assert "Set ingress.hosts" in refusal(helm4, **WITH_SECRET, ingress__enabled=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bogus", 1),
        ("image__bogus", 1),
        ("resources__bogus", 1),
        ("extraEnv", [{"name": "A", "bogus": "b"}]),
        ("replicas", "two"),
        ("processes", 0),
        ("processes", 1.5),
        ("database__poolMax", "8"),
        ("database__urlKey", ""),
        ("auth__mode", "nobody"),
        ("rollingUpdate__maxSurge", 0),
        ("shutdown__graceSeconds", -1),
        ("shutdown__marginSeconds", 0),
        ("runAsUser", 0),
        ("service__port", 70000),
        ("podLabels", {"a": 1}),
        ("image__digest", "latest"),
    ],
)
def test_the_schema_refuses(each_helm: Path, key: str, value: object) -> None:
    """The majors of helm say it in different words, and both name the key."""
    said = refusal(each_helm, **WITH_SECRET, **{key: value})
    assert "schema" in said
    assert key.split("__")[-1] in said


def objects(schema: Any, path: str) -> Iterator[tuple[str, Any]]:
    if schema.get("type") == "object":
        yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from objects(part, f"{path}.{name}".removeprefix("."))
    if "items" in schema:
        yield from objects(schema["items"], f"{path}[]")


def test_the_schema_is_closed_and_says_what_each_value_is() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    parts = list(objects(schema, ""))
    for name, definition in schema["definitions"].items():
        parts += objects(definition, name)
    assert {path for path, part in parts if "additionalProperties" not in part} == PASSED_THROUGH
    for path, part in parts:
        if path.split(".")[0] not in schema["definitions"]:
            for name, value in part.get("properties", {}).items():
                assert value.get("description") or "$ref" in value, f"{path}.{name}"


def test_every_value_has_a_default_and_every_default_is_known() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(part: Any, value: Any, path: str) -> None:
        known = set(part["properties"]) - {"global"}
        assert known == set(value), path
        for name in known:
            if "properties" in part["properties"][name]:
                compare(part["properties"][name], value[name], f"{path}.{name}")

    compare(schema, values, "")
