"""The texts of a store item that are embedded: those at the paths that the put or the index names.

LangGraph's names: one text at a path has the name of the path; of several, each has its number too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from langgraph.store.base import PutOp, get_text_at_path

from headrace.db.vector_index import VectorIndex
from headrace.errors import InvalidRequest
from headrace.index_settings import IndexSettings

#: Paths that a put may name; each choice within ``{a,b}`` counts.
MAX_PATHS = 20
MAX_PATH_CHARACTERS = 200


def named_paths(op: PutOp) -> tuple[str, ...] | None:
    """The paths that a put names: none for ``False``; None if it leaves them to the index."""
    if op.index is None:
        return None
    return () if op.index is False else tuple(dict.fromkeys(op.index))


def item_texts(
    value: Mapping[str, Any],
    paths: tuple[str, ...] | None,
    index: VectorIndex,
    settings: IndexSettings,
) -> dict[str, str]:
    """The texts of an item by the name of their field.

    It may take long for a large value: call it from a thread.

    :raises InvalidRequest: there are too many paths or texts, or a text is too long.
    """
    refuse_paths(paths or ())
    texts: dict[str, str] = {}
    for path in index.fields if paths is None else paths:
        found = get_text_at_path(value, path)
        for number, text in enumerate(found):
            texts[path if len(found) == 1 else f"{path}.{number}"] = text
            refuse_text(f"index: the text at {path}", text, settings)
        if len(texts) > settings.item_texts:
            raise InvalidRequest(
                f"index: the item has more than {settings.item_texts} texts at these paths"
                " (setting index.item_texts); name fewer, or send index: false"
            )
    return texts


def refuse_paths(paths: Sequence[str]) -> None:
    """:raises InvalidRequest: there are too many paths, or one is too long, empty or has a NUL."""
    if sum(1 + path.count(",") for path in paths) > MAX_PATHS:
        raise InvalidRequest(f"index: at most {MAX_PATHS} paths are taken")
    for path in paths:
        if not path or len(path) > MAX_PATH_CHARACTERS or "\0" in path:
            raise InvalidRequest(
                f"index: a path has 1 to {MAX_PATH_CHARACTERS} characters, and no NUL"
            )


def refuse_text(name: str, text: str, settings: IndexSettings) -> None:
    """:raises InvalidRequest: the text is too long."""
    size = len(text.encode(errors="replace"))
    if size > settings.text_bytes:
        raise InvalidRequest(
            f"{name} is {size} bytes long; at most {settings.text_bytes} are embedded (setting"
            " index.text_bytes); send a shorter text, name shorter fields, or send index: false"
        )
