"""Rendering the chart, and what it renders as data."""

import json
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.support.sources import ROOT

HELM = ROOT / "deploy" / "helm"
CHART = HELM / "headrace"
EXAMPLES = HELM / "examples"
NAMESPACE = "agents"

Document = dict[str, Any]


class Refused(Exception):
    """helm did not render; the text is what it printed."""


@dataclass(frozen=True)
class Rendered:
    text: str

    @cached_property
    def documents(self) -> list[Document]:
        """By kind and name, since the majors of helm differ in the order."""
        found = [document for document in yaml.safe_load_all(self.text) if document]
        return sorted(found, key=identity)

    def all(self, kind: str) -> list[Document]:
        return [document for document in self.documents if document["kind"] == kind]

    def one(self, kind: str) -> Document:
        (document,) = self.all(kind)
        return document

    def pod(self, kind: str) -> Document:
        """The pod of the only Deployment or Job."""
        spec: Document = self.one(kind)["spec"]["template"]["spec"]
        return spec

    def environment(self, kind: str) -> dict[str, Document]:
        """The variables of the only container of that pod, by name."""
        (container,) = self.pod(kind)["containers"]
        return {variable["name"]: variable for variable in container["env"]}


def identity(document: Document) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]


def names_used(value: Any) -> set[tuple[str, str]]:
    """(kind, name) of all that a pod refers to."""
    used: set[tuple[str, str]] = set()
    match value:
        case dict():
            for key, part in value.items():
                match key, part:
                    case ("secretKeyRef" | "secretRef", {"name": str(name)}):
                        used.add(("Secret", name))
                    case ("configMapKeyRef" | "configMapRef" | "configMap", {"name": str(name)}):
                        used.add(("ConfigMap", name))
                    case "serviceAccountName", str(name):
                        used.add(("ServiceAccount", name))
                    case _:
                        used |= names_used(part)
        case list():
            for part in value:
                used |= names_used(part)
    return used


def render(
    helm: Path, *files: Path, release: str = "my", namespace: str = NAMESPACE, **values: Any
) -> Rendered:
    """``helm template``; ``values`` are set on top of the files, ``__`` standing for a dot.

    :raises Refused:
    """
    options = [f"--values={file}" for file in files]
    options += [f"--set-json={key.replace('__', '.')}={json.dumps(v)}" for key, v in values.items()]
    done = subprocess.run(
        [helm, "template", release, CHART, f"--namespace={namespace}", *options],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Refused(done.stderr)
    return Rendered(done.stdout)
