"""The sources of graphs: the manifest, the app that passes them in, or the built-in graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from headrace.errors import StartupRefusal
from headrace.graphs.chat import build_chat
from headrace.graphs.loader import add_import_folders, load
from headrace.graphs.manifest import BUILT_IN, Manifest, apply_environment, find_manifest
from headrace.settings import Settings

_log = structlog.stdlib.get_logger("headrace.graphs")


@dataclass(frozen=True, slots=True)
class GraphSource:
    """A graph to serve: a builder, a compiled graph, or a factory of one of these."""

    graph_id: str
    graph: Any
    #: The name of the graph in refusals.
    where: str
    description: str | None = None


def sources_from(settings: Settings) -> list[GraphSource]:
    """The imported graphs of the manifest; without a manifest, the built-in graph.

    :raises StartupRefusal: HR104, HR109, HR111 as :func:`find_manifest`; HR101, HR102, HR105 as
        :func:`load`; HR110 for the model of the built-in graph.
    """
    manifest = find_manifest(settings)
    if manifest is None:
        return [
            GraphSource(
                BUILT_IN,
                build_chat(settings.model, settings.chat_messages),
                where=f"graph '{BUILT_IN}' (built in)",
                description="A conversation that remembers, per thread and per user.",
            )
        ]
    prepare_imports(manifest)
    return [
        GraphSource(
            graph_id,
            _load_and_log(graph_id, manifest),
            where=entry.described_as(graph_id),
            description=entry.description,
        )
        for graph_id, entry in manifest.graphs.items()
    ]


def prepare_imports(manifest: Manifest) -> None:
    """Set the manifest's environment and make its modules importable. It may be repeated.

    :raises StartupRefusal: HR101 a folder, HR104 the file of ``env``, does not exist.
    """
    apply_environment(manifest)
    add_import_folders(manifest.import_folders())


def sources_from_objects(graphs: Mapping[str, Any]) -> list[GraphSource]:
    """The graphs that a user's app passes to ``headrace.lifespan``.

    :raises StartupRefusal: HR104 there is no graph.
    """
    if not graphs:
        raise StartupRefusal(
            "HR104",
            where="headrace.lifespan(graphs=...)",
            what="there is no graph in it",
            remedy='Pass at least one: graphs={"agent": builder}.',
        )
    return [
        GraphSource(graph_id, graph, where=f"graph '{graph_id}' (headrace.lifespan)")
        for graph_id, graph in graphs.items()
    ]


def _load_and_log(graph_id: str, manifest: Manifest) -> Any:
    try:
        return load(graph_id, manifest.graphs[graph_id], manifest.folder)
    except StartupRefusal as refusal:
        if refusal.__cause__ is not None:
            _log.error("graph_import_failed", graph_id=graph_id, exc_info=refusal.__cause__)
        raise
