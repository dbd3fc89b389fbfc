"""What the chart and the server have agreed upon, and what an operator relies on."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from headrace import settings
from headrace.database_settings import DatabaseSettings
from headrace.health.endpoints import metrics_router, probes_router
from headrace.retention_settings import RetentionSettings
from headrace.setting_groups import ServerSettings
from headrace.settings import Settings
from tests.deploy.chart import Document, Refused, Rendered, names_used, render
from tests.deploy.generate import PLAIN_VALUES
from tests.deploy.tools import HERE

SECRET, URL, FULL, OPEN = (
    HERE / "values" / f"{name}.yaml" for name in ("secret", "url", "full", "open")
)


def known_settings() -> set[str]:
    names = set()
    for name, field in Settings.model_fields.items():
        groups = getattr(field.annotation, "model_fields", None)
        names |= {
            f"HEADRACE_{name}__{part.alias or key}".upper() for key, part in (groups or {}).items()
        }
        if groups is None:
            names.add(f"HEADRACE_{name}".upper())
    # Short for HEADRACE_AUTH__MODE.
    return names | {"HEADRACE_AUTH"}


@pytest.mark.parametrize("values", [SECRET, URL, FULL, OPEN], ids=lambda path: path.stem)
def test_every_variable_is_one_that_the_server_reads(helm4: Path, values: Path) -> None:
    rendered = render(helm4, values)
    kinds = ["Deployment", *(["Job"] if rendered.all("Job") else [])]
    names = {name for kind in kinds for name in rendered.environment(kind)}
    ours = {name for name in names if name.startswith("HEADRACE_")}
    assert ours <= known_settings()
    assert "HEADRACE_DATABASE__URL" in ours


def test_the_server_takes_the_variables(helm4: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = render(helm4, FULL).environment("Deployment")
    for name, variable in environment.items():
        monkeypatch.setenv(name, variable.get("value", "what-stands-in-a-secret"))
    found = Settings()
    assert (found.host, found.port, found.processes) == ("0.0.0.0", 8123, 4)
    assert (found.database.pool_min, found.database.pool_max) == (1, 20)
    assert found.database.schema_name == "my-agents"
    assert found.retention == RetentionSettings(
        thread_minutes=43200,
        thread_strategy="keep_latest",
        run_minutes=10080,
        store_minutes=0,
        store_refresh_on_read=False,
        sweep_minutes=2.5,
        sweep_limit=100,
    )
    assert found.server.graceful_timeout_seconds == 20 + 300 + 2 * 10 + 1
    assert not settings.unknown_variables()


@pytest.mark.parametrize(
    ("pre_stop", "delay", "grace", "margin"), list(product((0, 7), (0, 9), (0, 120), (1, 6)))
)
def test_the_pod_lives_longer_than_the_servers_own_shutdown(
    helm4: Path, pre_stop: int, delay: int, grace: int, margin: int
) -> None:
    shutdown: dict[str, Any] = {
        "shutdown__preStopSeconds": pre_stop,
        "shutdown__drainDelaySeconds": delay,
        "shutdown__graceSeconds": grace,
        "shutdown__marginSeconds": margin,
    }
    rendered = render(helm4, SECRET, **shutdown)
    pod = rendered.pod("Deployment")
    slept = pod["containers"][0].get("lifecycle", {"preStop": {"sleep": {"seconds": 0}}})
    variables = rendered.environment("Deployment")
    server = ServerSettings(
        drain_delay_seconds=variables["HEADRACE_SERVER__DRAIN_DELAY_SECONDS"]["value"],
        grace_seconds=variables["HEADRACE_SERVER__GRACE_SECONDS"]["value"],
        shutdown_margin_seconds=variables["HEADRACE_SERVER__SHUTDOWN_MARGIN_SECONDS"]["value"],
    )
    assert slept["preStop"]["sleep"]["seconds"] == pre_stop
    assert (
        pod["terminationGracePeriodSeconds"]
        == pre_stop + server.graceful_timeout_seconds + 5
        > pre_stop + delay + grace + 2 * margin
    )


def test_probes_ask_what_the_server_answers(helm4: Path) -> None:
    (container,) = render(helm4, SECRET).pod("Deployment")["containers"]
    asked = {
        probe: container[f"{probe}Probe"]["httpGet"]["path"]
        for probe in ("startup", "liveness", "readiness")
    }
    assert asked == {"startup": "/startupz", "liveness": "/livez", "readiness": "/readyz"}
    routes = [*probes_router.routes, *metrics_router.routes]
    answered = {getattr(route, "path", None) for route in routes}
    assert {*asked.values(), "/metrics"} <= answered
    assert container["ports"] == [
        {"name": "http", "containerPort": 8123},
        {"name": "metrics", "containerPort": 9123},
    ]
    ports = {container[f"{probe}Probe"]["httpGet"]["port"] for probe in asked}
    assert ports == {"metrics"}


def test_the_port_of_health_and_metrics_leads_nowhere_outside(helm4: Path) -> None:
    rendered = render(helm4, FULL)
    (port,) = rendered.one("Service")["spec"]["ports"]
    assert port["targetPort"] == "http"
    assert "metrics" not in json.dumps(rendered.one("Ingress")["spec"])
    (endpoint,) = rendered.one("ServiceMonitor")["spec"]["endpoints"]
    # A port of the pods, which Prometheus finds behind the Service though that does not show it.
    assert endpoint["targetPort"] == "metrics"
    assert "port" not in endpoint


def test_without_it_the_probes_ask_the_port_of_the_api(helm4: Path) -> None:
    (container,) = render(helm4, SECRET, metrics__port=0).pod("Deployment")["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": 8123}]
    assert container["livenessProbe"]["httpGet"]["port"] == "http"
    assert "HEADRACE_METRICS__PORT" not in {one["name"] for one in container["env"]}


def test_gunicorn_replaces_a_silent_process_before_the_kubelet_ends_the_pod(helm4: Path) -> None:
    (container,) = render(helm4, SECRET).pod("Deployment")["containers"]
    liveness = container["livenessProbe"]
    patience = liveness["periodSeconds"] * liveness["failureThreshold"]
    assert patience > ServerSettings().process_timeout_seconds


def hooks(rendered: Rendered) -> list[Document]:
    return [d for d in rendered.documents if "helm.sh/hook" in annotations(d)]


def annotations(document: Document) -> dict[str, str]:
    found: dict[str, str] = document["metadata"].get("annotations", {})
    return found


@pytest.mark.parametrize("values", [SECRET, URL, FULL], ids=lambda path: path.stem)
def test_the_migration_needs_nothing_that_comes_after_it(helm4: Path, values: Path) -> None:
    """A hook that waits for an object of its own release waits for ever."""
    rendered = render(helm4, values)
    before = {}
    for hook in hooks(rendered):
        assert annotations(hook)["helm.sh/hook"].startswith("pre-install,pre-upgrade")
        deleted = annotations(hook)["helm.sh/hook-delete-policy"]
        assert deleted.startswith("before-hook-creation,hook-succeeded")
        weight = int(annotations(hook)["helm.sh/hook-weight"])
        before[hook["kind"], hook["metadata"]["name"]] = weight
    later = {(d["kind"], d["metadata"]["name"]) for d in rendered.documents} - set(before)
    job = rendered.one("Job")
    used = names_used(job["spec"])
    assert used
    assert not used & later
    own = before["Job", job["metadata"]["name"]]
    assert all(before[name] < own for name in used & set(before))
    assert {"activeDeadlineSeconds", "backoffLimit"} <= set(job["spec"])


def test_the_deployment_needs_no_hook(helm4: Path) -> None:
    """Hooks are deleted once they have succeeded."""
    rendered = render(helm4, URL)
    gone = {(d["kind"], d["metadata"]["name"]) for d in hooks(rendered)}
    assert ("Secret", "my-headrace-migration") in gone
    assert not names_used(rendered.one("Deployment")) & gone


def test_servers_and_migrations_mean_one_schema(helm4: Path) -> None:
    for schema in ("", "my-agents"):
        rendered = render(helm4, SECRET, database__schema=schema)
        for kind in ("Deployment", "Job"):
            said = rendered.environment(kind).get("HEADRACE_DATABASE__SCHEMA", {}).get("value", "")
            assert said == schema == DatabaseSettings(schema=said).schema_name
    for refused in ("a.b", 'a"b', "1st", "a" * 64):
        with pytest.raises(Refused, match="schema"):
            render(helm4, SECRET, database__schema=refused)


def scraped(rendered: Rendered) -> dict[str, bool]:
    """Who has a Prometheus ask the pods."""
    pods = rendered.one("Deployment")["spec"]["template"]
    return {
        "monitor": bool(rendered.all("ServiceMonitor")),
        "pod monitor": bool(rendered.all("PodMonitor")),
        "pods": annotations(pods).get("prometheus.io/scrape") == "true",
        "service": annotations(rendered.one("Service")).get("prometheus.io/scrape") == "true",
    }


@pytest.mark.parametrize(
    ("way", "values"),
    [
        ("pods", {}),
        ("monitor", {"metrics__serviceMonitor__enabled": True}),
        ("pod monitor", {"metrics__podMonitor__enabled": True}),
        ("pods", {"podAnnotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9"}}),
        (
            "service",
            {
                "metrics__podAnnotations": False,
                "service__annotations": {"prometheus.io/scrape": "true"},
            },
        ),
        (None, {"podAnnotations": {"prometheus.io/scrape": "false"}}),
    ],
)
def test_the_pods_are_scraped_once(helm4: Path, way: str | None, values: dict[str, Any]) -> None:
    found = scraped(render(helm4, SECRET, **values))
    assert [name for name, there in found.items() if there] == ([way] if way else [])


@pytest.mark.parametrize(
    "values",
    [
        {
            "metrics__serviceMonitor__enabled": True,
            "podAnnotations": {"prometheus.io/scrape": "true"},
        },
        {
            "metrics__serviceMonitor__enabled": True,
            "service__annotations": {"prometheus.io/scrape": "true"},
        },
        {"metrics__serviceMonitor__enabled": True, "metrics__podMonitor__enabled": True},
        {
            "metrics__podMonitor__enabled": True,
            "podAnnotations": {"prometheus.io/scrape": "true"},
        },
        {"service__annotations": {"prometheus.io/scrape": "true"}},
    ],
)
def test_what_would_scrape_twice_does_not_render(helm4: Path, values: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=r"metrics: .* would count twice"):
        render(helm4, SECRET, **values)


def test_migrations_go_past_the_pooler(helm4: Path) -> None:
    rendered = render(helm4, URL)
    assert "HEADRACE_DATABASE__MIGRATION_URL" in rendered.environment("Job")
    assert "HEADRACE_DATABASE__MIGRATION_URL" not in rendered.environment("Deployment")


def test_a_plain_job_has_a_new_name_for_a_new_pod(helm4: Path) -> None:
    first, same, other = (
        render(helm4, PLAIN_VALUES, image__tag=tag).one("Job") for tag in ("1", "1", "2")
    )
    assert first == same
    assert first["metadata"]["name"] != other["metadata"]["name"]
    assert not hooks(render(helm4, PLAIN_VALUES))


def test_keys_unless_mode_none(helm4: Path) -> None:
    keys, nobody = (render(helm4, path).environment("Deployment") for path in (SECRET, OPEN))
    assert keys["HEADRACE_API_KEYS"]["valueFrom"]["secretKeyRef"] == {
        "name": "my-headrace-api-keys",
        "key": "api-keys",
    }
    assert "HEADRACE_AUTH" not in keys
    assert nobody["HEADRACE_AUTH"] == {"name": "HEADRACE_AUTH", "value": "none"}
    assert "HEADRACE_API_KEYS" not in nobody


def test_each_installation_has_its_own_random_key(helm4: Path) -> None:
    def key() -> Document:
        secrets = render(helm4, SECRET).all("Secret")
        (secret,) = (s for s in secrets if s["metadata"]["name"] == "my-headrace-api-keys")
        assert annotations(secret)["helm.sh/resource-policy"] == "keep"
        found: Document = secret["data"]
        return found

    assert key() != key()


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
@pytest.mark.parametrize("values", [SECRET, FULL], ids=lambda path: path.stem)
def test_pods_have_no_more_rights_than_they_need(helm4: Path, values: Path, kind: str) -> None:
    pod = render(helm4, values).pod(kind)
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "a Service `headrace` would set HEADRACE_PORT"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_what_is_written_to_is_in_memory(helm4: Path) -> None:
    rendered = render(helm4, SECRET)
    pod = rendered.pod("Deployment")
    mounts = {m["mountPath"]: m["name"] for m in pod["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    runtime = rendered.environment("Deployment")["HEADRACE_RUNTIME_DIR"]["value"]
    for path in (runtime, "/tmp"):
        assert volumes[mounts[path]]["emptyDir"]["medium"] == "Memory"


@pytest.mark.parametrize("values", [SECRET, FULL], ids=lambda path: path.stem)
def test_the_migrations_pod_is_no_server(helm4: Path, values: Path) -> None:
    """Neither the Service nor the disruption budget may count it."""
    rendered = render(helm4, values)

    def labels(kind: str) -> set[tuple[str, str]]:
        return set(rendered.one(kind)["spec"]["template"]["metadata"]["labels"].items())

    for selector in (
        rendered.one("Service")["spec"]["selector"],
        rendered.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        rendered.one("Deployment")["spec"]["selector"]["matchLabels"],
    ):
        assert set(selector.items()) <= labels("Deployment")
        assert not set(selector.items()) <= labels("Job")


def test_no_pod_is_taken_away_before_its_successor_is_ready(helm4: Path) -> None:
    rolling = render(helm4, SECRET).one("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling["maxUnavailable"] == 0


def test_a_new_database_url_replaces_the_pods(helm4: Path) -> None:
    def template(**values: Any) -> Document:
        found: Document = render(helm4, URL, **values).one("Deployment")["spec"]["template"]
        return found

    assert template() == template()
    assert template() != template(database__url="postgresql://headrace:new@pooler/headrace")
