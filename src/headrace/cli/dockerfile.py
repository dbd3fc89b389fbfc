"""``headrace dockerfile``: a Dockerfile for a project, from its ``langgraph.json``.

Reads the manifest and checks which files exist. It imports nothing of the project and builds
nothing. The image starts from Python's own, with headrace installed into it, or from an image of
headrace that the user has (``deploy/docker/Dockerfile``).
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

#: The oldest Python that headrace runs on, and the Python of an image if the manifest names none.
_PYTHON = (3, 11)
_USUAL_PYTHON = (3, 12)

_STDOUT = Path("-")

#: Files that do not belong into an image: conversations, secrets, history, and files that are built
#: anew.
_IGNORED = (".env", ".env.*", ".git", ".headrace", ".venv", "venv", "**/__pycache__", "Dockerfile")


class ImageManifest(Manifest):
    """The manifest with the keys that only an image needs."""

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
    output: Annotated[
        Path, typer.Option(help="The file to write, with a .dockerignore; - prints it.")
    ] = _STDOUT,
    image: Annotated[
        str | None,
        typer.Option(help="An image of headrace to start from; default: Python's, with pip."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that differs.")] = False,
) -> None:
    """Print a Dockerfile for this project, or write it and its .dockerignore."""
    path = config or Settings().config or Path(DEFAULT_NAME)
    text = dockerfile_for(path, image=image)
    ignored = path.parent / ".dockerignore"
    lines = ignore_lines(path, ignored.read_text("utf-8") if ignored.is_file() else "")
    if output == _STDOUT:
        typer.echo(text, nl=False)
        if lines:
            names = ", ".join(lines)
            typer.echo(f"keep these out of the image, by .dockerignore: {names}", err=True)
        return
    _write(output, text, force=force)
    if lines:
        _append(ignored, lines)
        typer.echo(f"{ignored}: {', '.join(lines)}")


def _write(file: Path, text: str, *, force: bool) -> None:
    if file.is_file() and not force:
        if file.read_bytes() == text.encode():
            typer.echo(f"{file} is as it would be written")
            return
        raise StartupRefusal(
            "HR206",
            where=str(file.absolute()),
            what="it is there already, and differs from what would be written",
            remedy="Look at what `headrace dockerfile` prints, or write over it with --force.",
        )
    if file.is_dir() or not file.parent.is_dir():
        raise StartupRefusal(
            "HR206",
            where=str(file.absolute()),
            what="no file can be written there",
            remedy="Name a file in a folder that exists.",
        )
    file.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {file}")


def _append(file: Path, lines: list[str]) -> None:
    """Add lines to a file; its present content stays."""
    before = file.read_text("utf-8") if file.is_file() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    title = "# Added by `headrace dockerfile`: secrets, conversations and what nobody needs there."
    file.write_text("\n".join([*([before] if before else []), title, *lines, ""]), "utf-8")


def ignore_lines(path: Path, present: str) -> list[str]:
    """The lines that ``.dockerignore`` lacks. If the user's own line excludes or includes a file,
    none is added for it.

    :param present: the present content of the file.
    """
    manifest = read_manifest_as(path, ImageManifest)
    wanted = list(_IGNORED)
    if isinstance(manifest.env, str):
        wanted.append(_inside(manifest, manifest.env, what="env file"))
    said = {_pattern(line) for line in present.splitlines()}
    return [one for one in dict.fromkeys(wanted) if _pattern(one) not in said]


def _pattern(line: str) -> str:
    """One form for ``/.env``, ``.env/`` and ``!.env``, and for ``**/.env``."""
    return line.strip().removeprefix("!").removeprefix("**/").strip("/")


def dockerfile_for(path: Path, *, image: str | None = None) -> str:
    """The Dockerfile, to be built in the manifest's folder.

    :param image: headrace's image to start from; default: Python's own.
    :raises StartupRefusal: HR101, HR104 the manifest; HR106 it asks for what no image can hold.
    """
    manifest = read_manifest_as(path, ImageManifest)
    refuse_missing_files(manifest)
    parts = [
        _from_python(manifest) if image is None else _from_headrace(manifest, image),
        _packages_may_come(),
        *_own_lines(manifest),
        _code(),
        _secrets_stay_out(manifest),
        _install(manifest),
        *_other_name(path),
        "USER 10001:10001\n",
    ]
    return "\n".join(parts)


_HEAD = """\
# Made by `headrace dockerfile`. Build it in the folder of langgraph.json; .dockerignore keeps .git,
# .venv, .headrace and .env out of the image.
"""

#: headrace's own image has these too (``deploy/docker/Dockerfile``).
_RUNS = """\
RUN groupadd --gid 10001 headrace \\
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin headrace \\
    && install --directory --mode=1777 /run/headrace
ENV PATH=/opt/headrace/bin:$PATH \\
    PYTHONDONTWRITEBYTECODE=1 \\
    PYTHONUNBUFFERED=1 \\
    HEADRACE_HOST=0.0.0.0 \\
    HEADRACE_RUNTIME_DIR=/run/headrace
EXPOSE 8123
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-Ic", \\
    "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('HEADRACE_PORT', 8123)), timeout=4); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["headrace"]
CMD ["serve"]
"""  # noqa: E501 - lines of another language


def _from_python(manifest: ImageManifest) -> str:
    """Python's own image, which is public, and headrace with its locked versions."""
    major, minor = manifest.python() or _USUAL_PYTHON
    own = f"headrace=={version('headrace')}"
    install = "/opt/headrace/bin/pip install --no-cache-dir --disable-pip-version-check"
    lines = [
        _HEAD,
        f"ARG PYTHON_IMAGE=python:{major}.{minor}-slim",
        "# hadolint ignore=DL3006",
        "FROM ${PYTHON_IMAGE}",
        "# headrace in an environment of its own, with the versions that it was released with.",
        "RUN python -m venv /opt/headrace \\",
        f"    && {install} --no-deps {own} \\",
        "    && cp /opt/headrace/lib/python*/site-packages/headrace/_constraints.txt"
        " /opt/headrace/constraints.txt \\",
        f"    && {install} --constraint /opt/headrace/constraints.txt {own}",
        f"{_RUNS}WORKDIR /app",
    ]
    return "\n".join([*lines, ""])


def _from_headrace(manifest: ImageManifest, image: str) -> str:
    _refuse_unprintable(image)
    python = manifest.python()
    lines = [
        _HEAD,
        f"ARG HEADRACE_IMAGE={image}",
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
    """The manifest's own lines, where LangGraph's builder puts them: after the base, before the
    project.
    """
    if not manifest.dockerfile_lines:
        return []
    return ["\n".join(["# dockerfile_lines of langgraph.json", *manifest.dockerfile_lines, ""])]


def _code() -> str:
    return "COPY . .\n"


def _secrets_stay_out(manifest: ImageManifest) -> str:
    """Lines that fail the build if ``.env``, or the file that ``env`` names, was copied.

    Then they make an empty file with the name in ``env``, because the server needs one. ``headrace
    dev`` reads ``.env`` by itself, so that file may exist although the manifest does not name it.
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
    """Packages as in LangGraph's images: requirements, requirement files, and folders installed in
    place.
    """
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
    """pip's arguments for one dependency; none for a folder that is only copied."""
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
    """The path from the manifest's folder. Only files inside that folder can be copied.

    :raises StartupRefusal: HR106 it is outside.
    """
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
