"""Where graphs come from: the manifest, the app that hands them over, or headrace itself."""

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
    """A graph that is to be served: a builder, a compiled graph, or a factory of either."""

    graph_id: str
    graph: Any
    #: How refusals name it.
    where: str
    description: str | None = None


def sources_from(settings: Settings) -> list[GraphSource]:
    """The graphs of the manifest, imported; without a manifest the built-in one.

    :raises StartupRefusal: HR101, HR102, HR104, HR105, and HR110 for the built-in one's model.
    """
    manifest = find_manifest(settings)
    if manifest is None:
        return [
            GraphSource(
                BUILT_IN,
                build_chat(settings.model),
                where=f"graph '{BUILT_IN}' (built in)",
                description="A conversation that remembers, per thread and per user.",
            )
        ]
    apply_environment(manifest)
    add_import_folders(manifest.import_folders())
    return [
        GraphSource(
            graph_id,
            _load_and_log(graph_id, manifest),
            where=entry.described_as(graph_id),
            description=entry.description,
        )
        for graph_id, entry in manifest.graphs.items()
    ]


def sources_from_objects(graphs: Mapping[str, Any]) -> list[GraphSource]:
    """The graphs that an app of the user's hands over.

    :raises StartupRefusal: HR104 when there is none.
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
