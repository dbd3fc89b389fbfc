"""The random API key outlives upgrades: the chart asks the cluster for the one that is there."""

import base64
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart import CHART, NAMESPACE

_NAME = "my-headrace-api-keys"
#: Group and version to the kinds that the chart makes by default.
_KINDS = {
    "v1": ("Secret", "Service", "ServiceAccount"),
    "apps/v1": ("Deployment",),
    "batch/v1": ("Job",),
    "policy/v1": ("PodDisruptionBudget",),
}


def _group(version: str) -> dict[str, Any]:
    served = {"groupVersion": version, "version": "v1"}
    return {"name": version.split("/")[0], "versions": [served], "preferredVersion": served}


def _resources(version: str) -> dict[str, Any]:
    resources = [
        {"name": f"{kind.lower()}s", "namespaced": True, "kind": kind, "verbs": ["get", "list"]}
        for kind in _KINDS[version]
    ]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}


_GROUPS = [version for version in _KINDS if "/" in version]
#: What helm asks before it looks anything up.
_DISCOVERY: dict[str, Any] = {
    "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "groups": [_group(version) for version in _GROUPS]},
    "/api/v1": _resources("v1"),
    **{f"/apis/{version}": _resources(version) for version in _GROUPS},
}
_NOT_FOUND = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound"}


class ApiServer(ThreadingHTTPServer):
    """As much of Kubernetes' API as ``lookup`` of a Secret needs."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.secrets: dict[str, Any] = {}

    def keep(self, secret: dict[str, Any]) -> None:
        """As helm would after an installation."""
        secret["metadata"]["namespace"] = NAMESPACE
        secret["metadata"]["annotations"] |= {
            "meta.helm.sh/release-name": "my",
            "meta.helm.sh/release-namespace": NAMESPACE,
        }
        self.secrets[secret["metadata"]["name"]] = secret

    def kubeconfig(self) -> dict[str, Any]:
        cluster = {"server": f"http://127.0.0.1:{self.server_port}"}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": cluster}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "users": [{"name": "fake", "user": {}}],
            "current-context": "fake",
        }


class _Handler(BaseHTTPRequestHandler):
    server: ApiServer

    def do_GET(self) -> None:
        prefix = f"/api/v1/namespaces/{NAMESPACE}/secrets/"
        path = self.path.split("?")[0]
        if path in _DISCOVERY:
            self._answer(200, _DISCOVERY[path])
        elif found := self.server.secrets.get(path.removeprefix(prefix)):
            self._answer(200, found)
        else:
            self._answer(404, {**_NOT_FOUND, "code": 404})

    def _answer(self, status: int, body: Any) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api_server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        thread = threading.Thread(target=server.serve_forever, name="api-server")
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def secret_rendered(helm: Path, server: ApiServer, folder: Path) -> Any:
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(server.kubeconfig()))
    done = subprocess.run(
        [
            *(helm, "template", "my", CHART, f"--namespace={NAMESPACE}", "--dry-run=server"),
            *("--set=database.existingSecret=my-database", "--disable-openapi-validation"),
        ],
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    documents = [document for document in yaml.safe_load_all(done.stdout) if document]
    (secret,) = (d for d in documents if d["metadata"]["name"] == _NAME)
    return secret


def test_the_key_that_is_there_stays(
    each_helm: Path, api_server: ApiServer, tmp_path: Path
) -> None:
    first = secret_rendered(each_helm, api_server, tmp_path)
    assert len(base64.b64decode(first["data"]["api-keys"])) == 40
    assert secret_rendered(each_helm, api_server, tmp_path)["data"] != first["data"]

    api_server.keep(first)
    assert secret_rendered(each_helm, api_server, tmp_path)["data"] == first["data"]


def test_keys_that_an_operator_has_written_stay(
    each_helm: Path, api_server: ApiServer, tmp_path: Path
) -> None:
    secret = secret_rendered(each_helm, api_server, tmp_path)
    secret["data"]["api-keys"] = base64.b64encode(b"old-key,new-key").decode()
    api_server.keep(secret)
    assert secret_rendered(each_helm, api_server, tmp_path)["data"] == secret["data"]
