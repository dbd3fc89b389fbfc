"""As much of a Kubernetes API as helm needs to run hooks; Jobs end as they are told to.

Objects are kept in memory, nothing is scheduled and nothing validated.
"""

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

_KINDS = {
    "v1": [("secrets", "Secret"), ("services", "Service"), ("serviceaccounts", "ServiceAccount")],
    "apps/v1": [("deployments", "Deployment")],
    "batch/v1": [("jobs", "Job")],
    "policy/v1": [("poddisruptionbudgets", "PodDisruptionBudget")],
}
_PROTOBUF = b"k8s\0"
_OBJECT = re.compile(
    r"/apis?/(?P<version>(?:\w+/)?v1)/namespaces/(?P<namespace>[\w-]+)"
    r"/(?P<kind>\w+)(?:/(?P<name>[\w.-]+))?$"
)


class KubeStub:
    """
    :ivar jobs_fail: what becomes of Jobs.
    """

    def __init__(self) -> None:
        self.jobs_fail = False
        self.closed = threading.Event()
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self._version = 0

    def names(self, kind: str) -> set[str]:
        return {name for of, name in self.objects if of == kind}

    def put(self, kind: str, given: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        metadata = given["metadata"]
        metadata |= {
            "resourceVersion": str(self._version),
            "uid": metadata.get("uid", f"uid-{self._version}"),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        if kind == "jobs":
            ended = "Failed" if self.jobs_fail else "Complete"
            given["status"] = {
                "conditions": [{"type": ended, "status": "True", "reason": "AsTold"}],
                "failed" if self.jobs_fail else "succeeded": 1,
            }
        self.objects[kind, metadata["name"]] = given
        return given


class _Handler(BaseHTTPRequestHandler):
    stub: KubeStub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        match url.path:
            case "/openapi/v2":
                return self._answer(None)
            case "/version":
                return self._answer({"major": "1", "minor": "34", "gitVersion": "v1.34.0"})
            case "/api":
                return self._answer({"kind": "APIVersions", "versions": ["v1"]})
            case "/apis":
                return self._answer({"kind": "APIGroupList", "groups": list(_groups())})
        version = url.path.removeprefix("/apis/").removeprefix("/api/")
        if version in _KINDS:
            return self._answer(_resources(version))
        if found := _OBJECT.match(url.path):
            kind, name = found["kind"], found["name"]
            if name:
                there = self.stub.objects.get((kind, name))
                return self._answer(there) if there else self._missing(name)
            if query.get("watch"):
                return self._watch(kind, query)
            return self._answer(self._list(kind, query, found["version"]))
        return self._missing(url.path)

    def do_POST(self) -> None:
        found = _OBJECT.match(urlsplit(self.path).path)
        assert found is not None, self.path
        given = self._body()
        if (found["kind"], given["metadata"]["name"]) in self.stub.objects:
            return self._fail(409, "AlreadyExists", "it exists")
        return self._answer(self.stub.put(found["kind"], given), 201)

    def do_PUT(self) -> None:
        found = _OBJECT.match(urlsplit(self.path).path)
        assert found is not None, self.path
        return self._answer(self.stub.put(found["kind"], self._body()))

    def do_PATCH(self) -> None:
        found = _OBJECT.match(urlsplit(self.path).path)
        assert found is not None, self.path
        there = self.stub.objects.get((found["kind"], found["name"]), {})
        given = self._body()
        return self._answer(
            self.stub.put(
                found["kind"],
                {
                    **there,
                    **given,
                    "metadata": {
                        "name": found["name"],
                        **there.get("metadata", {}),
                        **given.get("metadata", {}),
                    },
                },
            )
        )

    def do_DELETE(self) -> None:
        found = _OBJECT.match(urlsplit(self.path).path)
        assert found is not None, self.path
        self._read()
        if self.stub.objects.pop((found["kind"], found["name"]), None) is None:
            return self._missing(found["name"])
        return self._answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _list(self, kind: str, query: dict[str, list[str]], version: str) -> dict[str, Any]:
        wanted = [part for one in query.get("labelSelector", []) for part in one.split(",")]
        field = query.get("fieldSelector", [""])[0]
        items = [
            item
            for (of, name), item in self.stub.objects.items()
            if of == kind
            and (not field or field == f"metadata.name={name}")
            and all(
                item["metadata"].get("labels", {}).get(part.split("=")[0]) == part.split("=")[1]
                for part in wanted
                if "!=" not in part and "=" in part
            )
        ]
        named = next(title for plural, title in _KINDS[version] if plural == kind)
        return {
            "kind": f"{named}List",
            "apiVersion": version,
            "metadata": {"resourceVersion": "1"},
            "items": items,
        }

    def _watch(self, kind: str, query: dict[str, list[str]]) -> None:
        if "sendInitialEvents" in query:
            self._fail(422, "Invalid", "list first")
            return
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        field = query.get("fieldSelector", [""])[0]
        told: dict[str, str] = {}
        with suppress(OSError):
            while not self.stub.closed.wait(0.02):
                for (of, name), item in list(self.stub.objects.items()):
                    version = item["metadata"]["resourceVersion"]
                    if of == kind and field in ("", f"metadata.name={name}"):
                        if told.get(name) != version:
                            self._tell(item)
                        told[name] = version

    def _tell(self, item: dict[str, Any]) -> None:
        self.wfile.write(json.dumps({"type": "MODIFIED", "object": item}).encode() + b"\n")

    def _body(self) -> Any:
        text = self._read()
        if text.startswith(_PROTOBUF):
            return _secret(text.removeprefix(_PROTOBUF))
        return json.loads(text) if text else {}

    def _read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _answer(self, body: Any, status: int = 200) -> None:
        # An empty OpenAPI, which is asked for as protobuf, finds fault with no kind.
        text = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _missing(self, name: str) -> None:
        self._fail(404, "NotFound", f"{name} not found")

    def _fail(self, status: int, reason: str, message: str) -> None:
        self._answer(
            {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "reason": reason,
                "message": message,
                "code": status,
            },
            status,
        )


def _secret(unknown: bytes) -> dict[str, Any]:
    """helm writes its releases, which are Secrets, in the other form."""
    whole = list(_fields(dict(_fields(unknown))[2]))
    secret = dict(whole)
    metadata = list(_fields(secret[1]))
    said = dict(metadata)
    labels = [dict(_fields(value)) for number, value in metadata if number == 11]
    data = [dict(_fields(value)) for number, value in whole if number == 2]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": said[1].decode(),
            "namespace": said.get(3, b"agents").decode(),
            "labels": {one[1].decode(): one[2].decode() for one in labels},
        },
        "data": {one[1].decode(): base64.b64encode(one[2]).decode() for one in data},
        "type": secret.get(3, b"Opaque").decode(),
    }


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protobuf message that are texts, bytes or messages."""
    at = 0

    def number() -> int:
        nonlocal at
        found = shift = 0
        while True:
            byte = message[at]
            at += 1
            found |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return found

    while at < len(message):
        tag = number()
        if tag & 7 == 2:
            length = number()
            yield tag >> 3, message[at : at + length]
            at += length
        else:
            number()


def _groups() -> Iterator[dict[str, Any]]:
    for version in _KINDS:
        if "/" in version:
            one = {"groupVersion": version, "version": "v1"}
            yield {"name": version.split("/")[0], "versions": [one], "preferredVersion": one}


def _resources(version: str) -> dict[str, Any]:
    return {
        "kind": "APIResourceList",
        "groupVersion": version,
        "resources": [
            {
                "name": plural,
                "singularName": "",
                "namespaced": True,
                "kind": kind,
                "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
            }
            for plural, kind in _KINDS[version]
        ],
    }


@contextmanager
def kube_stub(folder: Path) -> Iterator[tuple[KubeStub, Path]]:
    """The stub, and a kubeconfig that names it."""
    stub = KubeStub()
    handler = type("Handler", (_Handler,), {"stub": stub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    config = folder / "kubeconfig.json"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "stub",
                "clusters": [
                    {
                        "name": "stub",
                        "cluster": {"server": f"http://127.0.0.1:{server.server_port}"},
                    }
                ],
                "users": [{"name": "stub", "user": {}}],
                "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "stub"}}],
            }
        )
    )
    try:
        yield stub, config
    finally:
        stub.closed.set()
        server.shutdown()
        server.server_close()
        thread.join()
