"""``langgraph.json``: the graphs, the places of their code, and their environment.

This module reads and checks the file, and imports no code of the user. The format is LangGraph's;
``docs/langgraph-json.md`` explains how headrace uses each key.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from headrace.errors import DOCUMENTATION, StartupRefusal
from headrace.graphs.auth_entry import AuthEntry
from headrace.graphs.http_entry import HttpEntry
from headrace.graphs.manifest_keys import REFUSED, notices_of, refused_key
from headrace.graphs.object_path import attribute_of, has_attribute, module_of, names_a_file
from headrace.graphs.persistence_entries import CheckpointerEntry, StoreEntry
from headrace.graphs.webhooks_entry import WebhooksEntry
from headrace.settings import Settings, environment, set_environment

DEFAULT_NAME = "langgraph.json"

#: The built-in graph. A server without a manifest serves it.
BUILT_IN = "chat"

Text = Annotated[str, Field(min_length=1)]


class GraphEntry(BaseModel):
    """One graph: ``path`` is ``file.py:attribute`` or ``package.module:attribute``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    path: Text
    description: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_attribute(self) -> Self:
        has_attribute(self.path)
        return self

    @property
    def module(self) -> str:
        return module_of(self.path)

    @property
    def attribute(self) -> str:
        return attribute_of(self.path)

    @property
    def is_file(self) -> bool:
        """Whether it names a file; else it names a dotted module."""
        return names_a_file(self.path)

    def described_as(self, graph_id: str) -> str:
        """The name of the graph in refusals: ``graph 'agent' (./graph.py:builder)``."""
        return f"graph '{graph_id}' ({self.path})"


class Manifest(BaseModel):
    """The part of a ``langgraph.json`` that a server needs."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    folder: Path = Field(exclude=True)
    graphs: dict[Text, GraphEntry] = Field(min_length=1)
    dependencies: list[str] = []
    env: dict[str, str | int | float | bool] | str = {}
    store: StoreEntry | None = None
    checkpointer: CheckpointerEntry | None = None
    http: HttpEntry | None = None
    webhooks: WebhooksEntry | None = None
    auth: AuthEntry | None = None
    #: One sentence for each key that does not do what its author may expect.
    notices: tuple[str, ...] = Field((), exclude=True)

    @property
    def authenticates(self) -> bool:
        """Whether a handler of the user tells who calls."""
        return self.auth is not None and self.auth.path is not None

    def import_folders(self) -> list[Path]:
        """Folders whose modules the graphs may import: the manifest's, and its local dependencies.

        Other dependencies are packages, which must be installed already.

        :raises StartupRefusal: HR101 the folder of a dependency does not exist.
        """
        named = [name for name in self.dependencies if name.startswith((".", "/"))]
        found = [self.folder]
        for name in named:
            folder = self.folder / name
            if not folder.is_dir():
                raise missing(f"dependency '{name}'", f"there is no folder {name}")
            found += [folder / "src", folder]
        return [folder.resolve() for folder in dict.fromkeys(found) if folder.is_dir()]

    def environment(self) -> dict[str, str]:
        """The variables of ``env``. Variables of the process win over them.

        :raises StartupRefusal: HR104 ``env`` names a file that does not exist.
        """
        if isinstance(self.env, str):
            file = self.folder / self.env
            if not file.is_file():
                raise _refusal(
                    self.folder / DEFAULT_NAME, f"env names {self.env}, which is no file"
                )
            return {name: value for name, value in dotenv_values(file).items() if value is not None}
        return {name: str(value) for name, value in self.env.items()}


def chat_graph(graph_ids: Sequence[str], wanted: str) -> str:
    """The graph behind ``/chat``.

    :param wanted: the graph that the setting names; empty: ``chat``, else the first graph.
    """
    return wanted or (BUILT_IN if BUILT_IN in graph_ids else graph_ids[0])


AnyManifest = TypeVar("AnyManifest", bound=Manifest)


def find_manifest(settings: Settings) -> Manifest | None:
    """The manifest that the settings name, else the one in the working directory, else None.

    :raises StartupRefusal: as :func:`read_manifest`.
    """
    path = settings.config or Path(DEFAULT_NAME)
    if settings.config is None and not path.exists():
        return None
    return read_manifest(path)


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file.

    :raises StartupRefusal: HR104 it cannot be read or is not valid; HR109 it names a checkpointer;
        HR111 it has a key that protects something, and that headrace does not support; HR129 it
        asks for pickle.
    """
    return read_manifest_as(path, Manifest)


def read_manifest_as(path: Path, kind: type[AnyManifest]) -> AnyManifest:
    """As :func:`read_manifest`, with the further keys of ``kind``.

    :raises StartupRefusal: HR104, HR109, HR111, HR129.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _refusal(path, f"it cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise _refusal(path, f"it is not JSON ({error})") from None
    if not isinstance(content, Mapping):
        raise _refusal(path, "it is not a JSON object")
    _refuse_open_doors(path, content)
    try:
        manifest = kind.model_validate(
            {**content, "folder": path.parent, "notices": notices_of(content)}
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # For a choice of types, pydantic adds the type that it has tried.
        places = [str(part) for part in first["loc"] if "[" not in str(part)]
        place = ".".join(places)
        what = first["msg"].removeprefix("Value error, ")
        what = f"{place}: {what[0].lower()}{what[1:]}"
        if places[0] not in ("graphs", "dependencies", "env"):
            raise _refusal(
                path,
                what,
                remedy=f"{DOCUMENTATION}/langgraph-json.md explains the valid values.",
            ) from None
        raise _refusal(path, what) from None
    if manifest.checkpointer is not None and manifest.checkpointer.path is not None:
        raise StartupRefusal(
            "HR109",
            where=f"manifest {path}",
            what=f"checkpointer.path names a checkpointer of your own"
            f" ({manifest.checkpointer.path})",
            remedy="Remove it: headrace keeps checkpoints in its own Postgres.",
        )
    if manifest.checkpointer is not None and manifest.checkpointer.serde.pickle_fallback:
        raise StartupRefusal(
            "HR129",
            where=f"manifest {path}",
            what="checkpointer.serde.pickle_fallback lets all who can write to the database run"
            " code in the server",
            remedy="Take it out; list the types of your states in allowed_msgpack_modules.",
        )
    return manifest


def _refuse_open_doors(path: Path, content: Mapping[str, Any]) -> None:
    key = refused_key(content)
    if key is not None:
        what, remedy = REFUSED[key]
        raise StartupRefusal(
            "HR111",
            where=f"manifest {path}",
            what=f"it has {key}, and {what}",
            remedy=f"Take {key} out; {remedy}.",
        )


def apply_environment(manifest: Manifest) -> None:
    """Set the variables of ``env`` that the process does not have."""
    present = environment()
    wanted = manifest.environment()
    set_environment({name: value for name, value in wanted.items() if name not in present})


def refuse_missing_files(manifest: Manifest) -> None:
    """Check that the files of graphs, handlers, ``http.app`` and ``store.index`` exist.

    It imports none of them.


    :raises StartupRefusal: HR101 a file does not exist.
    """
    places = {entry.described_as(name): entry.path for name, entry in manifest.graphs.items()}
    if manifest.http is not None and manifest.http.app is not None:
        places[f"http.app ({manifest.http.app})"] = manifest.http.app
    if manifest.store is not None and (index := manifest.store.index) and index.names_code:
        places[f"store.index.embed ({index.embed})"] = index.embed
    if manifest.auth is not None and manifest.auth.path is not None:
        places[f"auth ({manifest.auth.path})"] = manifest.auth.path
    for where, path in places.items():
        if names_a_file(path) and not (manifest.folder / module_of(path)).is_file():
            raise missing(where, f"there is no file {module_of(path)}")


def missing(where: str, what: str) -> StartupRefusal:
    """The refusal HR101."""
    return StartupRefusal(
        "HR101",
        where=where,
        what=what,
        remedy="Correct the path in langgraph.json; it is relative to that file.",
    )


def _refusal(
    path: Path,
    what: str,
    remedy: str = 'Write it like {"graphs": {"agent": "./graph.py:builder"}}.',
) -> StartupRefusal:
    return StartupRefusal("HR104", where=f"manifest {path}", what=what, remedy=remedy)
