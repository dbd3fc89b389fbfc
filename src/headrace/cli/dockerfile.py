"""``headrace dockerfile``: the Dockerfile of a project, from its ``langgraph.json``.

Reads the manifest and looks which files there are; imports nothing of the project's and builds
nothing. The image it describes starts from headrace's own (``deploy/docker/Dockerfile``).
"""

import re
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from pydantic import Field

from headrace.errors import StartupRefusal
from headrace.graphs.manifest import (
    DEFAULT_NAME,
    Manifest,
    read_manifest_as,
    refuse_missing_files,
)
from headrace.settings import Settings

#: The Python of headrace's image when its tag names none.
_PYTHON = (3, 11)

_STDOUT = Path("-")


class ImageManifest(Manifest):
    """The manifest with what only an image needs."""

    python_version: Annotated[str, Field(pattern=r"^3\.\d+$")] | None = None
    dockerfile_lines: tuple[str, ...] = ()

    def python(self) -> tuple[int, int] | None:
        """The Python that is asked for.

        :raises StartupRefusal: HR106 when headrace does not run on it.
        """
        if self.python_version is None:
            return None
        major, minor = map(int, self.python_version.split("."))
        if (major, minor) < _PYTHON:
            raise _refusal(
                f"python_version {self.python_version}",
                "headrace needs Python 3.11 or newer",
                'Write "python_version": "3.11", or a newer one.',
            )
        return major, minor


def dockerfile(
    config: Annotated[
        Path | None, typer.Option(help="Path of langgraph.json (HEADRACE_CONFIG).")
    ] = None,
    output: Annotated[Path, typer.Option(help="The file to write; - prints it.")] = _STDOUT,
) -> None:
    """Print a Dockerfile for this project; its image starts from headrace's own."""
    path = config or Settings().config or Path(DEFAULT_NAME)
    text = dockerfile_for(path)
    if output == _STDOUT:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


def dockerfile_for(path: Path) -> str:
    """The Dockerfile, to be built in the manifest's folder.

    :raises StartupRefusal: HR101, HR104 the manifest; HR106 it asks for what no image can hold.
    """
    manifest = read_manifest_as(path, ImageManifest)
    refuse_missing_files(manifest)
    parts = [
        _base(manifest),
        _packages_may_come(),
        *_own_lines(manifest),
        _code(),
        _secrets_stay_out(manifest),
        _install(manifest),
        *_other_name(path),
        "USER 10001:10001\n",
    ]
    return "\n".join(parts)


def _base(manifest: ImageManifest) -> str:
    python = manifest.python()
    tag = version("headrace")
    if python is not None and python != _PYTHON:
        tag += f"-python{python[0]}.{python[1]}"
    lines = [
        "# Made by `headrace dockerfile`. Build it in the folder of langgraph.json, and keep .git,",
        "# .venv, .headrace and .env out of the image by naming them in .dockerignore.",
        "",
        f"ARG HEADRACE_IMAGE=headrace:{tag}",
        "# hadolint ignore=DL3006",
        "FROM ${HEADRACE_IMAGE}",
        "USER 0:0",
        "WORKDIR /app",
    ]
    if python is not None:
        wanted = f"{python[0]}.{python[1]}"
        sentence = f"langgraph.json asks for Python {wanted}, HEADRACE_IMAGE has another"
        lines += [
            "RUN python -c 'import sys;"
            f' sys.exit(sys.version_info[:2] != {python} and "{sentence}")\''
        ]
    return "\n".join([*lines, ""])


def _packages_may_come() -> str:
    return (
        "# pip is here while the image is built. The constraints are what headrace runs with: a\n"
        "# requirement that contradicts them fails here.\n"
        "ARG PIP_CONSTRAINT=/opt/headrace/constraints.txt\n"
        "RUN python -m ensurepip --default-pip\n"
    )


def _own_lines(manifest: ImageManifest) -> list[str]:
    """Where LangGraph's own builder has them: after the base, before the project."""
    if not manifest.dockerfile_lines:
        return []
    return ["\n".join(["# dockerfile_lines of langgraph.json", *manifest.dockerfile_lines, ""])]


def _code() -> str:
    return "COPY . .\n"


def _secrets_stay_out(manifest: ImageManifest) -> str:
    """Of ``.env`` and the file that ``env`` names; the server looks for the latter, so it is empty.

    ``headrace dev`` reads ``.env`` without being told to, so it may be there without a word of it.
    """
    named = None
    if isinstance(manifest.env, str):
        named = _inside(manifest, manifest.env, what="env file")
    lines = [
        "# Secrets stay out of the image: give them to the container (docker run --env-file .env)."
    ]
    steps = []
    for file in dict.fromkeys([".env", *filter(None, [named])]):
        sentence = f"{file} would be baked into the image: name it in .dockerignore"
        steps.append(f"test ! -e {quote(file)} || {{ echo {quote(sentence)} >&2; exit 1; }}")
    if named is not None:
        lines.append(
            "# The server looks for the file that langgraph.json names: it finds an empty one."
        )
        steps.append(f"mkdir -p {quote(str(Path(named).parent))} && touch {quote(named)}")
    return "\n".join([*lines, "RUN " + " \\\n    && ".join(steps), ""])


def _install(manifest: ImageManifest) -> str:
    """Packages as LangGraph has them: requirements, files of such, and folders in place."""
    wanted: list[str] = []
    for name in manifest.dependencies:
        wanted += _wanted(manifest, name)
    lines = [
        "python -m compileall -q . || true",
        "chmod -R a+rX .",
        "pip uninstall --quiet --yes --root-user-action=ignore setuptools pip",
    ]
    if wanted:
        install = "pip install --no-cache-dir --root-user-action=ignore"
        lines.insert(0, " \\\n        ".join([install, *wanted]))
    lines[-3] = f"{{ {lines[-3]}; }}"
    return "# hadolint ignore=DL3013\nRUN " + " \\\n    && ".join(lines) + "\n"


def _wanted(manifest: ImageManifest, name: str) -> list[str]:
    """What pip is told for one dependency; nothing for a folder that is only copied."""
    if not name.startswith((".", "/")):
        _refuse_unprintable(name)
        return [quote(name)]
    inside = _inside(manifest, name, what="dependency")
    folder = manifest.folder / inside
    if not folder.is_dir():
        raise _refusal(
            f"dependency '{name}'", "there is no such folder", "Correct it, or take it out."
        )
    if any((folder / file).is_file() for file in ("pyproject.toml", "setup.py")):
        return [f"--editable {quote(inside if inside == '.' else './' + inside)}"]
    if (folder / "requirements.txt").is_file():
        return [f"--requirement {quote(str(Path(inside, 'requirements.txt')))}"]
    return []


def _inside(manifest: ImageManifest, name: str, *, what: str) -> str:
    """The path from the manifest's folder; only what is in there can be copied."""
    _refuse_unprintable(name)
    folder = manifest.folder.resolve()
    try:
        return str((folder / name).resolve().relative_to(folder))
    except ValueError:
        raise _refusal(
            f"{what} '{name}'",
            "it is outside the folder of langgraph.json, which the image is built from",
            "Move langgraph.json up, or what it names down.",
        ) from None


def _other_name(path: Path) -> list[str]:
    if path.name == DEFAULT_NAME:
        return []
    if not re.fullmatch(r"[\w.-]+", path.name):
        raise _refusal(
            f"manifest '{path.name}'", "a Dockerfile cannot name it", f"Rename it {DEFAULT_NAME}."
        )
    return [f"ENV HEADRACE_CONFIG=/app/{path.name}\n"]


def _refuse_unprintable(name: str) -> None:
    if not name.isprintable():
        raise _refusal(f"{name!r}", "it has characters that end a line", "Take them out.")


def _refusal(where: str, what: str, remedy: str) -> StartupRefusal:
    return StartupRefusal("HR106", where=f"langgraph.json, {where}", what=what, remedy=remedy)
