"""The house rules that no linter knows: one test each. CONTRIBUTING.md says them in words."""

import ast
import json
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from headrace.settings import Settings
from tests.support.sources import PACKAGE, ROOT, modules

Function = ast.FunctionDef | ast.AsyncFunctionDef

#: Folders of machines on which somebody once worked, and hosts that packages come from.
_PLACES = re.compile(r"(?<![\w.~-])/(?:work|root|tmp/wt)(?:/|\b)")
_REGISTRIES = re.compile(r"pythonhosted|://[^\s\"'`]*/simple\b|://pypi\.|index[-_]url\s*=\s*\S*//")

#: How a sentence begins that names no subject, in a docstring or a comment; and a word that names
#: nobody.
_ODD_ENGLISH = re.compile(r'''(?:"""|#:? |-- )(?:Of|The same) |(?i:\bwhoever\b)''')

#: Imports everything, and says what that did besides defining things. Binding is not watched: a
#: dependency tries at import whether this machine has IPv6.
_IMPORT_EVERYTHING = """
import importlib, json, pkgutil, sys
opened = []
watched = {"socket.connect", "subprocess.Popen"}
sys.addaudithook(lambda event, args: event in watched and opened.append(f"{event} {args[1:]}"))
import headrace
names = ["headrace"] + [
    found.name for found in pkgutil.walk_packages(headrace.__path__, "headrace.")
    if not found.name.endswith("__main__")
]
loaded = {name: importlib.import_module(name) for name in names}
from fastapi import FastAPI
from headrace.settings import Settings
from psycopg_pool import AsyncConnectionPool
from sqlalchemy.ext.asyncio import AsyncEngine
built = [
    f"{name}.{attribute}" for name, module in loaded.items()
    for attribute, value in vars(module).items()
    if isinstance(value, (FastAPI, Settings, AsyncConnectionPool, AsyncEngine))
]
print(json.dumps({"modules": names, "opened": opened, "built": built}))
"""


def functions() -> Iterator[tuple[str, Function]]:
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{module}:{node.lineno} {node.name}", node


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def lines_like(pattern: re.Pattern[str]) -> list[str]:
    """Lines of tracked files that hold such a thing; this one names the patterns."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in tracked_files()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if pattern.search(line)
    ]


def lock_files() -> list[Path]:
    found = sorted(ROOT.glob("requirements*.lock"))
    assert found
    return found


def grouped_fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str | None]]:
    """Every setting and its description; a group is described by its class."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield f"{prefix}{name}", kind.__doc__
            yield from grouped_fields(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.description


def catches_everything(handler: ast.ExceptHandler) -> bool:
    names = ast.walk(handler.type) if handler.type is not None else []
    return handler.type is None or any(
        isinstance(name, ast.Name) and name.id in ("Exception", "BaseException") for name in names
    )


def tells_or_raises(handler: ast.ExceptHandler) -> bool:
    """Whether the handler raises, here or to who waits for a future, or logs the traceback."""
    for node in ast.walk(handler):
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Call):
            # Not the ``exception`` of a future, which only reads it.
            logs = ast.unparse(node.func) in ("_log.exception", "log.exception")
            passes_on = ast.unparse(node.func).endswith(".set_exception")
            if logs or passes_on or any(keyword.arg == "exc_info" for keyword in node.keywords):
                return True
    return False


def owner_of(kind: type, attribute: str) -> str:
    """The module of the class from which ``kind`` has it; empty when it has none."""
    return next((base.__module__ for base in kind.__mro__ if attribute in vars(base)), "")


def is_endpoint(function: Function) -> bool:
    return any(
        re.match(r"\w*router\.(get|post|put|patch|delete)\(", ast.unparse(decorator))
        for decorator in function.decorator_list
    )


def test_no_module_is_longer_than_500_lines() -> None:
    lengths = {name: len((ROOT / name).read_text().splitlines()) for name in modules()}
    assert {name: length for name, length in lengths.items() if length > 500} == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [name for name, tree in modules().items() if tree.body and not ast.get_docstring(tree)]
    assert silent == []


def test_docstrings_and_comments_are_plain_english() -> None:
    """A sentence begins with its subject, and names who does something."""
    odd = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.sql")])
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if _ODD_ENGLISH.search(line) and "comment=" not in line
    ]
    assert odd == []


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(f"{module}:{node.lineno}")
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert shared == {}


def test_no_module_is_named_after_nothing() -> None:
    banned = {"utils", "util", "helpers", "common", "core", "base", "manager"}
    assert [name for name in modules() if banned & set(Path(name).with_suffix("").parts)] == []


def test_nothing_happens_at_import() -> None:
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _IMPORT_EVERYTHING],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert len(found["modules"]) == len(modules()) - 1, "__main__ is the only one left out"
    assert found["opened"] == []
    assert found["built"] == []


def test_functions_fit_a_screen() -> None:
    lengths = [(node.end_lineno or 0) - node.lineno + 1 for _, node in functions()]
    assert statistics.quantiles(lengths, n=20)[-1] <= 40


def test_every_endpoint_says_what_it_does() -> None:
    endpoints = {name: node for name, node in functions() if is_endpoint(node)}
    assert endpoints
    assert [name for name, node in endpoints.items() if not ast.get_docstring(node)] == []


def test_whoever_catches_everything_logs_the_traceback_or_raises() -> None:
    silent = [
        f"{module}:{node.lineno}"
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and catches_everything(node)
        and not tells_or_raises(node)
    ]
    assert silent == []


def test_two_modules_alone_know_upstreams_private_names() -> None:
    """By import, or as an attribute that one of our classes inherits from upstream's."""
    from headrace.checkpoints.saver import GroupCommitSaver
    from headrace.checkpoints.store import Store
    from headrace.checkpoints.upstream_saver import UpstreamSaver

    known = ("src/headrace/checkpoints/upstream.py", "src/headrace/checkpoints/queued_store.py")
    imported = [
        f"{module}:{node.lineno} {node.module}.{alias.name}"
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("langgraph")
        for alias in node.names
        if "._" in f".{node.module}.{alias.name}"
    ]
    assert imported, "both import some"
    assert [one for one in imported if not one.startswith(known)] == []
    inherited = [
        f"{module}:{node.lineno} {node.attr}"
        for module, kinds in {"saver": (GroupCommitSaver, UpstreamSaver), "store": (Store,)}.items()
        for node in ast.walk(modules()[f"src/headrace/checkpoints/{module}.py"])
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr)
        for kind in kinds
        if owner_of(kind, node.attr).startswith("langgraph")
    ]
    assert inherited == []


def test_every_setting_is_described() -> None:
    fields = dict(grouped_fields(Settings, ""))
    assert len(fields) > 30
    assert [name for name, text in fields.items() if not (text or "").strip()] == []


def test_every_dependency_has_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(one for extra in extras.values() for one in extra)]
    reasons = {
        match[1]: match[2]
        for match in re.finditer(r'^[^#\n]*"([^"\n]+)"[\],]*[ ]+# *(\S.*)$', text, re.MULTILINE)
    }
    assert [one for one in wanted if one not in reasons] == []


def test_locks_have_hashes_and_no_address() -> None:
    for lock in lock_files():
        text = lock.read_text()
        assert not re.search(r"://|--(?:extra-)?index-url|--find-links|--trusted-host", text), lock
        pins = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
        assert len(pins) > 20
        assert [pin.split()[0] for pin in pins if "--hash=sha256:" not in pin] == [], lock


def test_no_file_knows_a_machine() -> None:
    assert lines_like(_PLACES) == []


def test_no_file_knows_a_package_registry() -> None:
    assert lines_like(_REGISTRIES) == []
