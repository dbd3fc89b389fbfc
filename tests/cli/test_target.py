"""Which graph ``headrace dev`` means."""

import json

import pytest
import typer

from headrace.cli.target import manifest_for, target_in
from headrace.errors import StartupRefusal


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("builder = 1", "builder"),
        ("builder = 1\ngraph = builder", "graph"),
        ("async def make_graph(config): ...", "make_graph"),
        ("agent: object = 1", "agent"),
        ("from mine import workflow", "workflow"),
        ("def broken(:", "graph"),
    ],
)
def test_a_graph_file_is_read_not_run(tmp_path, text, name):
    (tmp_path / "graph.py").write_text(text)
    assert target_in(tmp_path) == f"graph.py:{name}"


def test_a_graph_of_another_name_is_asked_for(tmp_path):
    (tmp_path / "graph.py").write_text("something = 1")
    with pytest.raises(StartupRefusal, match=r"HR101 .*headrace dev graph.py:NAME"):
        target_in(tmp_path)


def test_a_manifest_comes_first(tmp_path):
    assert target_in(tmp_path) is None
    (tmp_path / "graph.py").write_text("graph = 1")
    (tmp_path / "langgraph.json").write_text("{}")
    assert target_in(tmp_path) is None


def test_a_manifest_is_written_for_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = json.loads(manifest_for("graph.py:builder", tmp_path).read_text())
    assert written["graphs"] == {"agent": f"{tmp_path}/graph.py:builder"}
    assert written["dependencies"] == [str(tmp_path)]
    assert manifest_for("other.json", tmp_path).name == "other.json"
    with pytest.raises(typer.BadParameter):
        manifest_for("graph.py", tmp_path)
