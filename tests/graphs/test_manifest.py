"""The manifest: both forms, the environment, and refusals that name the place."""

import json
import os
import re

import pytest

from headrace.errors import StartupRefusal
from headrace.graphs.manifest import (
    apply_environment,
    find_manifest,
    read_manifest,
    refuse_missing_files,
)
from headrace.settings import Settings


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "langgraph.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_string_and_object_form(write):
    manifest = read_manifest(
        write(
            {
                "graphs": {
                    "a": "./a.py:graph",
                    "b": {"path": "pkg.mod:make", "description": "the second"},
                },
                "dependencies": ["."],
                "python_version": "3.12",
                "dockerfile_lines": [],
            }
        )
    )
    assert list(manifest.graphs) == ["a", "b"]
    assert manifest.graphs["a"].is_file
    assert (manifest.graphs["a"].module, manifest.graphs["a"].attribute) == ("./a.py", "graph")
    assert not manifest.graphs["b"].is_file
    assert manifest.graphs["b"].description == "the second"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "it is not JSON"),
        ("[]", "it is not a JSON object"),
        ({}, "graphs: field required"),
        ({"graphs": {}}, "graphs: "),
        ({"graphs": {"a": "./a.py"}}, "graphs.a: './a.py' is not of the form ./file.py:attribute"),
        ({"graphs": {"a": 5}}, "graphs.a"),
        ({"graphs": {"a": "a.py:b"}, "dependencies": "."}, "dependencies"),
        ({"graphs": {"a": "a.py:b"}, "env": 5}, "env"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused_by_place(write, content, says):
    path = write(content)
    with pytest.raises(StartupRefusal, match=re.escape(says)) as caught:
        read_manifest(path)
    assert caught.value.code == "HR104"
    assert str(path) in str(caught.value)


def test_none_is_fine_unless_it_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_manifest(Settings()) is None
    with pytest.raises(StartupRefusal, match="HR104"):
        find_manifest(Settings(config=tmp_path / "other.json"))


def test_what_the_process_has_wins_over_the_manifests_environment(write, monkeypatch):
    monkeypatch.setenv("TEST_HAS", "process")
    monkeypatch.delenv("TEST_WANTS", raising=False)
    env = {"TEST_HAS": "manifest", "TEST_WANTS": 3}
    apply_environment(read_manifest(write({"graphs": {"a": "a.py:b"}, "env": env})))
    assert (os.environ["TEST_HAS"], os.environ.pop("TEST_WANTS")) == ("process", "3")


def test_the_environment_may_be_a_file(write, tmp_path):
    path = write({"graphs": {"a": "a.py:b"}, "env": "./.env"})
    with pytest.raises(StartupRefusal, match=r"HR104.*env names \./\.env"):
        read_manifest(path).environment()
    (tmp_path / ".env").write_text("# a comment\nexport KEY='a b'\nEMPTY=\nNO_VALUE\n")
    assert read_manifest(path).environment() == {"KEY": "a b", "EMPTY": ""}


def test_a_missing_file_is_refused_without_importing_anything(write):
    manifest = read_manifest(write({"graphs": {"agent": "./nope.py:graph"}}))
    with pytest.raises(StartupRefusal, match=r"HR101 graph 'agent' .*there is no file"):
        refuse_missing_files(manifest)
