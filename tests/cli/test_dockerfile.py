"""The Dockerfile of a project, as it is written in ``dockerfiles/`` for several manifests."""

import json
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from headrace.cli.dockerfile import dockerfile_for
from headrace.cli.main import app
from headrace.errors import StartupRefusal
from tests.deploy.tools import hadolint
from tests.support.sources import ROOT

GOLDEN = Path(__file__).parent / "dockerfiles"

OUR_IMAGE = f"headrace:{version('headrace')}"

GRAPHS = {"graphs": {"agent": "./graph.py:builder"}}

#: Manifest, files beside it, and the name of what comes of them.
PROJECTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "graph_alone": ({}, []),
    "plain_folder": ({"dependencies": ["."]}, []),
    "requirements": ({"dependencies": ["."]}, ["requirements.txt"]),
    "package_wins": ({"dependencies": ["."]}, ["requirements.txt", "pyproject.toml"]),
    "several": (
        {
            "dependencies": [
                "python-slugify[unidecode]>=8,<9; python_version < '4'",
                "./agent",
                "./old",
                "./our tools",
                "./data",
            ]
        },
        ["agent/pyproject.toml", "old/setup.py", "our tools/requirements.txt", "data/a.csv"],
    ),
    "everything": (
        {
            "dependencies": ["."],
            "python_version": "3.12",
            "dockerfile_lines": [
                "RUN apt-get update && apt-get install -y --no-install-recommends"
                " libjpeg62-turbo=1:2.1.*"
                " && rm -rf /var/lib/apt/lists/*",
                "RUN pip install --no-cache-dir pillow==12.0.0",
            ],
            "env": "./secret/prod.env",
        },
        ["requirements.txt"],
    ),
    "from_python": ({"dependencies": ["."]}, ["requirements.txt"]),
    "from_python_wanted": ({"python_version": "3.13"}, []),
    "environment_inline": ({"dependencies": ["."], "env": {"LEVEL": "2"}}, []),
}


def project(folder: Path, manifest: object, *files: str, name: str = "langgraph.json") -> Path:
    for file in ("graph.py", *files):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    path = folder / name
    path.write_text(manifest if isinstance(manifest, str) else json.dumps(manifest))
    return path


def golden(name: str) -> str:
    """What is expected of this release."""
    text = (GOLDEN / f"{name}.Dockerfile").read_text()
    return text.replace("VERSION", version("headrace"))


@pytest.fixture(params=PROJECTS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """The golden file's name, and what is written now."""
    manifest, files = PROJECTS[request.param]
    image = None if request.param.startswith("from_python") else OUR_IMAGE
    path = project(tmp_path, {**GRAPHS, **manifest}, *files)
    return request.param, dockerfile_for(path, image=image)


def test_a_manifest_gives_its_dockerfile(written: tuple[str, str]) -> None:
    name, text = written
    assert text == golden(name)


def test_hadolint_has_nothing_to_say(written: tuple[str, str]) -> None:
    _lint(written[1])


def test_nor_about_our_own() -> None:
    _lint((ROOT / "deploy" / "docker" / "Dockerfile").read_text())


def test_our_own_is_labelled_with_this_release() -> None:
    text = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    assert f"\nARG VERSION={version('headrace')}\n" in text


def _lint(text: str) -> None:
    done = subprocess.run([hadolint(), "-"], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ("{", "HR104.*it is not JSON"),
        ({}, "HR104.*graphs: field required"),
        ({"graphs": {"agent": "./nope.py:builder"}}, "HR101.*there is no file ./nope.py"),
        ({**GRAPHS, "python_version": "3.10"}, "HR106.*python_version 3.10: headrace needs"),
        ({**GRAPHS, "python_version": "three"}, "HR104.*python_version: "),
        ({**GRAPHS, "dockerfile_lines": "RUN true"}, "HR104.*dockerfile_lines: "),
        ({**GRAPHS, "dependencies": ["./nope"]}, "HR106.*'./nope': there is no such folder"),
        ({**GRAPHS, "dependencies": ["../other"]}, "HR106.*'../other': it is outside the folder"),
        ({**GRAPHS, "dependencies": ["/opt"]}, "HR106.*'/opt': it is outside the folder"),
        ({**GRAPHS, "dependencies": ["a\nRUN b"]}, r"HR106.*'a\\nRUN b': .* end a line"),
        ({**GRAPHS, "env": "../.env"}, "HR106.*env file '../.env': it is outside the folder"),
    ],
)
def test_what_cannot_be_built_is_refused(tmp_path: Path, manifest: object, says: str) -> None:
    with pytest.raises(StartupRefusal, match=says):
        dockerfile_for(project(tmp_path, manifest))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project(tmp_path, {**GRAPHS, "env": "./prod.env"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["dockerfile", *arguments])


def test_the_command_prints_or_writes(folder: Path) -> None:
    printed = run()
    assert printed.exit_code == 0
    assert printed.stdout.startswith("# Made by `headrace dockerfile`.")
    assert "by .dockerignore: .env, " in printed.stderr
    assert not (folder / ".dockerignore").exists()
    assert run("--output", "Dockerfile").exit_code == 0
    assert (folder / "Dockerfile").read_text() == printed.stdout
    assert "ARG HEADRACE_IMAGE=mine:1\n" in run("--image", "mine:1").stdout


def test_conversations_and_secrets_are_kept_out(folder: Path) -> None:
    run("--output", "Dockerfile")
    ignored = (folder / ".dockerignore").read_text()
    lines = ignored.splitlines()
    assert {".env", ".git", ".headrace", "**/__pycache__", "prod.env"} < set(lines)
    run("--output", "Dockerfile")
    assert (folder / ".dockerignore").read_text() == ignored


def test_a_dockerignore_of_ones_own_is_added_to(folder: Path) -> None:
    (folder / ".dockerignore").write_text("# mine\n/.git/\n!venv\n*.csv")
    run("--output", "Dockerfile")
    lines = (folder / ".dockerignore").read_text().splitlines()
    assert lines[:4] == ["# mine", "/.git/", "!venv", "*.csv"]
    assert ".headrace" in lines[4:]
    assert not {".git", "venv"} & set(lines[4:])


def test_a_dockerfile_that_was_edited_is_not_written_over(folder: Path) -> None:
    run("--output", "Dockerfile")
    written = (folder / "Dockerfile").read_text()
    (folder / "Dockerfile").write_text(f"{written}# mine\n")
    refused = run("--output", "Dockerfile")
    assert isinstance(refused.exception, StartupRefusal)
    assert str(refused.exception).startswith(f"HR206 {folder / 'Dockerfile'}: ")
    assert "--force" in str(refused.exception)
    assert (folder / "Dockerfile").read_text().endswith("# mine\n")
    assert run("--output", "Dockerfile", "--force").exit_code == 0
    assert (folder / "Dockerfile").read_text() == written


def test_a_manifest_of_another_name_is_found_in_the_image(tmp_path: Path) -> None:
    text = dockerfile_for(project(tmp_path, GRAPHS, name="agents.json"))
    assert "ENV HEADRACE_CONFIG=/app/agents.json\n" in text
    with pytest.raises(StartupRefusal, match=r"HR106.*a b\.json"):
        dockerfile_for(project(tmp_path, GRAPHS, name="a b.json"))
