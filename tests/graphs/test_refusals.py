"""Every sentence that refuses a manifest, or warns of it, as it is printed."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import StartupRefusal
from headrace.graphs import check
from headrace.graphs.manifest import read_manifest
from headrace.settings import Settings

GOLDEN = Path(__file__).parent / "golden" / "refusals.txt"
GRAPHS = {"agent": "./hr_g.py:graph"}

#: What the manifest says besides, by what is wrong with it.
MANIFESTS: dict[str, dict[str, Any]] = {
    "handlers without a name": {"auth": {"path": "./auth.py"}},
    "encryption": {"encryption": {"path": "./crypt.py:encryption"}},
    "a checkpointer of one's own": {"checkpointer": {"path": "./saver.py:saver"}},
    "a prefix that is no path": {"http": {"mount_prefix": "api"}},
    "a pattern that is none": {"http": {"cors": {"allow_origin_regex": "("}}},
    "an origin that is none": {"http": {"cors": {"allow_origins": ["app.example.com"]}}},
    "an origin that no browser sends": {"http": {"cors": {"allow_origins": ["https://A.example"]}}},
    "an order that is none": {"http": {"middleware_order": "last"}},
    "an app without a name": {"http": {"app": "./app.py"}},
    "an index without a size": {"store": {"index": {"embed": "openai:x"}}},
    "an index with a key that is none": {
        "store": {"index": {"dims": 3, "embed": "openai:x", "size": 3}}
    },
    "a model that is none": {"store": {"index": {"dims": 3, "embed": "words"}}},
    "more numbers than an index takes": {"store": {"index": {"dims": 3072, "embed": "openai:x"}}},
    "an option of another kind of index": {
        "store": {
            "index": {"dims": 3, "embed": "openai:x", "ann_index_config": {"kind": "flat", "m": 4}}
        }
    },
    "a type that is none": {"checkpointer": {"serde": {"allowed_msgpack_modules": [["Type"]]}}},
    "pickle": {"checkpointer": {"serde": {"pickle_fallback": True}}},
}

NOTICES: dict[str, Any] = {
    "auth": {"disable_studio_auth": True},
    "store": {"tll": {}},
    "webhooks": {"url": {"hosts": []}},
    "crons": [],
    "priority": {"path": "./p.py:p"},
    "checkpointer": {"serde": {"allowed_msgpack_modules": True, "allowed_json_modules": True}},
    "http": {"cors": {"allow_origins": ["*"], "allow_credentials": True}, "prefix": "/api"},
    "grahps": {},
    "ui": {"agent": "./ui.tsx"},
    "python_version": "3.12",
    "dockerfile_lines": ["RUN true"],
    "_comment": "left alone",
    "$schema": "https://langgra.ph/schema.json",
}


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(**content):
        path = Path("langgraph.json")
        path.write_text(json.dumps({"graphs": GRAPHS, **content}))
        return read_manifest(path)

    return read


_STATE = """
from dataclasses import dataclass
from enum import Enum
from typing import TypedDict
from langgraph.graph import StateGraph

class Colour(Enum):
    RED = 1

@dataclass
class Listed:
    colour: Colour

@dataclass
class Thing:
    inner: "Listed | None"

class State(TypedDict):
    things: dict[str, list[Thing]]

graph = StateGraph(State)
graph.add_node("node", lambda state: {})
graph.set_entry_point("node")
"""

#: Manifest and the file that it names, by what is wrong with what is in there.
PROJECTS: dict[str, tuple[dict[str, Any], str]] = {
    "a factory that wants a thing": ({}, "def graph(config, runtime, thing): ..."),
    "a factory that wants a model": ({}, "class Model: ...\ndef graph(model: Model): ..."),
    "an async generator": ({}, "async def graph(config):\n    yield 1"),
    "a generator": ({}, "def graph():\n    yield 1"),
    "no app": ({"http": {"app": "./hr_g.py:thing"}}, "thing = object()"),
    "the class of an app": ({"http": {"app": "./hr_g.py:FastAPI"}}, "from fastapi import FastAPI"),
    "an app that is not there": ({"http": {"app": "./hr_g.py:ap"}}, "app = 1"),
    "a model that is not there": (
        {"store": {"index": {"dims": 3, "embed": "./words.py:embed"}}},
        "graph = lambda: None",
    ),
    "a model that is no function": (
        {"store": {"index": {"dims": 3, "embed": "./hr_g.py:words"}}},
        "words = 3",
    ),
    "a provider that is none": (
        {"store": {"index": {"dims": 3, "embed": "nobody:words"}}},
        "",
    ),
    "a state whose types are not listed": (
        {"checkpointer": {"serde": {"allowed_msgpack_modules": [["hr_g", "Listed"]]}}},
        _STATE,
    ),
    "an app that raises": ({"http": {"app": "./hr_g.py:app"}}, "\nraise RuntimeError('no key')"),
}


def golden() -> dict[str, str]:
    """Sentence by what is wrong."""
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines if line)


@pytest.mark.parametrize("wrong", MANIFESTS)
def test_a_manifest_that_asks_for_what_cannot_be(read, wrong):
    with pytest.raises(StartupRefusal) as caught:
        read(**MANIFESTS[wrong])
    assert str(caught.value) == golden()[wrong]


def test_what_is_passed_over_is_told_in_a_line_each(read):
    told = dict(enumerate(read(**NOTICES).notices))
    assert {f"notice {number}": line for number, line in told.items()} == {
        name: line for name, line in golden().items() if name.startswith("notice")
    }


def test_a_manifest_that_says_nothing_odd_is_not_warned_of(read):
    manifest = read(dependencies=["."], env={}, http={"disable_mcp": True}, auth=None, store=None)
    assert manifest.notices == ()


@pytest.mark.parametrize("wrong", PROJECTS)
def test_what_cannot_be_served_is_refused_before_anything_is_started(read, monkeypatch, wrong):
    content, text = PROJECTS[wrong]
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("hr_g.py").write_text(text)
    read(**content)
    with pytest.raises(StartupRefusal) as caught:
        asyncio.run(check.check(Settings(config=Path("langgraph.json"))))
    sys.modules.pop("hr_g", None)
    assert str(caught.value) == golden()[wrong]
