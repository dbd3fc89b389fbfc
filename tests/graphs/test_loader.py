"""Importing the user's files as the user's own imports would, and saying what went wrong."""

import json
import sys

import pytest

from headrace.errors import StartupRefusal
from headrace.graphs.sources import sources_from
from headrace.settings import Settings


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Write files and a manifest; returns the sources. What was imported is forgotten again."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def load(graphs, files, **manifest):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        config = tmp_path / "langgraph.json"
        config.write_text(json.dumps({"graphs": graphs, **manifest}))
        return {one.graph_id: one.graph for one in sources_from(Settings(config=config))}

    yield load
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(project, *arguments):
    with pytest.raises(StartupRefusal) as caught:
        project(*arguments)
    return caught.value


def test_a_file_may_import_its_neighbours(project):
    files = {"hr_graph.py": "from hr_parts import value as graph", "hr_parts.py": "value = 1"}
    assert project({"agent": "./hr_graph.py:graph"}, files) == {"agent": 1}


def test_a_file_in_a_package_is_the_module_that_its_package_knows(project):
    files = {
        "hr_pkg/__init__.py": "",
        "hr_pkg/sub/__init__.py": "",
        "hr_pkg/sub/graph.py": "from ..state import State as graph",
        "hr_pkg/state.py": "class State: pass",
    }
    graph = project({"agent": "./hr_pkg/sub/graph.py:graph"}, files)["agent"]
    assert graph is sys.modules["hr_pkg.state"].State
    assert "hr_pkg.sub.graph" in sys.modules


def test_two_files_of_one_name_are_two_modules(project):
    files = {"one/hr_graph.py": "graph = 1", "two/hr_graph.py": "graph = 2"}
    graphs = {"one": "./one/hr_graph.py:graph", "two": "./two/hr_graph.py:graph"}
    assert project(graphs, files) == {"one": 1, "two": 2}


def test_a_file_named_like_a_module_that_is_imported_already(project):
    assert project({"agent": "./json.py:graph"}, {"json.py": "graph = 1"}) == {"agent": 1}


def test_two_graphs_of_one_file_share_its_module(project):
    files = {"hr_graph.py": "made = []\nmade.append(1)\nfirst = made\nsecond = made"}
    graphs = project({"a": "./hr_graph.py:first", "b": "./hr_graph.py:second"}, files)
    assert graphs["a"] is graphs["b"]
    assert graphs["a"] == [1]


def test_a_dotted_module_in_a_dependency(project):
    files = {"lib/src/hr_lib/__init__.py": "", "lib/src/hr_lib/g.py": "graph = 1"}
    assert project({"a": "hr_lib.g:graph"}, files, dependencies=["./lib", "requests"]) == {"a": 1}


def test_a_path_that_leads_nowhere(project):
    said = refusal(project, {"agent": "./nope.py:graph"}, {})
    assert said.code == "HR101"
    assert "graph 'agent' (./nope.py:graph): there is no file ./nope.py" in str(said)
    said = refusal(project, {"agent": "hr_none.graph:graph"}, {})
    assert said.code == "HR101"
    assert "there is no module hr_none" in str(said)


def test_a_name_that_is_not_there_is_answered_with_those_that_are(project):
    text = "from langgraph.graph import StateGraph\nbuilder = StateGraph(dict)\nother = 3"
    said = refusal(project, {"agent": "./hr_graph.py:graph"}, {"hr_graph.py": text})
    assert said.code == "HR101"
    assert "./hr_graph.py has no 'graph' (it has builder)" in str(said)


def test_an_import_that_raises_says_what_and_where(project):
    said = refusal(project, {"agent": "./hr_g.py:graph"}, {"hr_g.py": "\n\nimport hr_missing\n"})
    assert said.code == "HR105"
    assert "ModuleNotFoundError: No module named 'hr_missing' (hr_g.py line 3)" in str(said)
    assert said.__cause__ is not None


def test_a_checkpointer_that_is_an_unentered_context_manager(project):
    text = """
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import START, MessagesState, StateGraph
builder = StateGraph(MessagesState)
builder.add_node("n", lambda state: state)
builder.add_edge(START, "n")
graph = builder.compile(checkpointer=AsyncPostgresSaver.from_conn_string("postgresql://x"))
"""
    said = refusal(project, {"agent": "./hr_graph.py:graph"}, {"hr_graph.py": text})
    assert str(said).startswith(
        "HR102 graph 'agent' (./hr_graph.py:graph): its checkpointer is an un-entered context"
        " manager (from_conn_string() returns one). Remove it: headrace injects the saver."
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "import sys\n\nsys.exit(7)\n",
            "it ended the program, as sys.exit(7) does (hr_g.py line 3)",
        ),
        ("raise KeyboardInterrupt\n", "raised KeyboardInterrupt (hr_g.py line 1)"),
        ("import asyncio\nraise asyncio.CancelledError\n", "CancelledError (hr_g.py line 2)"),
        (
            "import json\n\njson.loads('{')\n",
            "double quotes: line 1 column 2 (char 1) (hr_g.py line 3)",
        ),
        ("x = 1\n\ngraph = (\n", "SyntaxError: '(' was never closed (hr_g.py line 3)"),
        ("import hr_broken\n", "(hr_broken.py line 2)"),
        (
            "def __getattr__(name):\n    raise OSError('no disk')\n",
            "OSError: no disk (hr_g.py line 2)",
        ),
    ],
)
def test_whatever_an_import_does_is_a_refusal_that_names_the_users_line(project, text, says):
    files = {"hr_g.py": text, "hr_broken.py": "x = 1\ndef f(:\n"}
    said = refusal(project, {"agent": "./hr_g.py:graph"}, files)
    assert said.code == "HR105"
    assert says in str(said)


def test_a_dependency_that_is_no_folder_is_refused(project):
    with pytest.raises(StartupRefusal, match=r"HR101 dependency './nope': there is no folder"):
        project({"agent": "./hr_g.py:graph"}, {"hr_g.py": "graph = 1"}, dependencies=["./nope"])
