"""The project's own files, as text and as syntax trees, for tests that compare code and pages."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "headrace"


@cache
def modules() -> dict[str, ast.Module]:
    """The syntax tree of each module of the package, by path from the project's top."""
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in the package, with the module it stands in."""
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield name, node


def page(name: str) -> str:
    """A page of ``docs/``."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")
