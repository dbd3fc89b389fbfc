"""Loads the embedding model that ``store.index`` of ``langgraph.json`` names."""

from dataclasses import dataclass

import structlog
from langchain_core.embeddings import Embeddings
from langgraph.store.base import ensure_embeddings

from headrace.db.vector_index import VectorIndex
from headrace.errors import StartupRefusal
from headrace.graphs.index_entry import IndexEntry
from headrace.graphs.loader import load_object
from headrace.graphs.manifest import Manifest
from headrace.graphs.sources import prepare_imports
from headrace.observability.user_code import described

_log = structlog.stdlib.get_logger("headrace.graphs")


@dataclass(frozen=True, slots=True)
class LoadedIndex:
    """The index of a manifest, and its model."""

    index: VectorIndex
    embeddings: Embeddings


def load_index(manifest: Manifest | None) -> LoadedIndex | None:
    """The index of the manifest, with its model; None if the manifest has none.

    :raises StartupRefusal: HR101 the object is not there, HR105 its import raised, HR115 it is no
        embedding model, or the provider's package or key is missing.
    """
    entry = manifest.store.index if manifest is not None and manifest.store is not None else None
    if entry is None or manifest is None:
        return None
    prepare_imports(manifest)
    made = _from_code(entry, manifest) if entry.names_code else _from_provider(entry)
    return LoadedIndex(entry.as_index(), made)


def _from_code(entry: IndexEntry, manifest: Manifest) -> Embeddings:
    where = f"store.index.embed ({entry.embed})"
    try:
        found = load_object(entry.embed, manifest.folder, where=where)
    except StartupRefusal as refusal:
        if refusal.__cause__ is not None:
            _log.error("embeddings_import_failed", embed=entry.embed, exc_info=refusal.__cause__)
        raise
    if isinstance(found, Embeddings):
        return found
    if isinstance(found, type) or not callable(found):
        raise _unusable(
            entry,
            f"it is {found!r:.80}, neither a function nor an Embeddings object of LangChain",
            "Name a function that takes a list of texts and returns a list of vectors, or an"
            " object of a class of Embeddings.",
        )
    return ensure_embeddings(found)


def _from_provider(entry: IndexEntry) -> Embeddings:
    try:
        return ensure_embeddings(entry.embed)
    except Exception as error:
        # Each provider has its own error for a missing package or key.
        raise _unusable(
            entry,
            f"it cannot be loaded ({described(error).rstrip('.')})",
            "Install langchain and the provider's package, and set its key, for example"
            " OPENAI_API_KEY.",
        ) from error


def _unusable(entry: IndexEntry, what: str, remedy: str) -> StartupRefusal:
    return StartupRefusal(
        "HR115", where=f"store.index.embed ({entry.embed})", what=what, remedy=remedy
    )
