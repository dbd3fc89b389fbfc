"""What is written from the chart: deploy/kubernetes/, its README's table of values, the rules.

``python -m tests.deploy.generate`` writes all of it; tests compare.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.chart import CHART, HELM, render
from tests.deploy.expressions import RULES
from tests.deploy.rules import plain_rules
from tests.deploy.tools import fetch_helm
from tests.support.sources import ROOT

PLAIN = ROOT / "deploy" / "kubernetes"
PLAIN_VALUES = HELM / "plain-values.yaml"
README = CHART / "README.md"

_HEADER = "# Written by `make manifests` from deploy/helm/headrace: change the chart instead.\n"
_SECRET = """\
# Needs the Secret `headrace`, with the database's URL and a key that callers send as X-Api-Key:
#   kubectl create secret generic headrace \\
#     --from-literal=database-url='postgresql://user:password@host/database' \\
#     --from-literal=api-keys="$(openssl rand -hex 20)"
"""
#: Only true of what helm itself has applied.
_HELMS_OWN = ("app.kubernetes.io/managed-by:", "helm.sh/chart:")
_BEGIN, _END = "<!-- values -->\n", "<!-- /values -->"


def plain_manifests(helm: Path) -> dict[str, str]:
    """File name to text: one file for each template."""
    rendered = render(helm, PLAIN_VALUES, release="headrace")
    return dict(_files(rendered.text))


def _files(text: str) -> Iterator[tuple[str, str]]:
    for document in text.split("---\n# Source: ")[1:]:
        source, body = document.split("\n", 1)
        lines = [
            line for line in body.splitlines() if not line.strip().startswith(_HELMS_OWN) and line
        ]
        whole = "\n".join(lines) + "\n"
        yield Path(source).name, _HEADER + (_SECRET if "secretKeyRef" in whole else "") + whole


def with_values_table(readme: str) -> str:
    """The README with its table written anew."""
    before, rest = readme.split(_BEGIN)
    _, after = rest.split(_END)
    return before + _BEGIN + values_table() + _END + after


def values_table() -> str:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = [
        f"| `{path}` | {kind} | {default} | {text} |\n"
        for path, kind, default, text in _rows(schema, values)
    ]
    return "| Value | Type | Default | What it is |\n|---|---|---|---|\n" + "".join(rows)


def _rows(schema: Any, values: Any, path: str = "") -> Iterator[tuple[str, str, str, str]]:
    for name, part in schema["properties"].items():
        if name == "global":
            continue
        here = f"{path}.{name}" if path else name
        if "properties" in part:
            yield from _rows(part, values[name], here)
        else:
            yield here, _kind(part), _shown(values[name]), part["description"]


def _shown(default: Any) -> str:
    if default in ("", None, [], {}):
        return ""
    text = json.dumps(default)
    return f"`{text}`" if len(text) < 100 else "see [values.yaml](values.yaml)"


def _kind(part: Any) -> str:
    if "enum" in part:
        return " or ".join(f"`{choice}`" for choice in part["enum"])
    kind = part.get("type", "object")
    return " or ".join(kind) if isinstance(kind, list) else kind


def main() -> None:
    for name, text in plain_manifests(fetch_helm(4)).items():
        (PLAIN / name).write_text(text)
    README.write_text(with_values_table(README.read_text()))
    RULES.write_text(plain_rules())


if __name__ == "__main__":
    main()
