"""The settings of the store's semantic index: calls of the embedding model, and searches."""

from pydantic import Field

from headrace.setting_groups import Group


class IndexSettings(Group):
    """The semantic index of the store: calls of the embedding model, and searches.

    Only where `store.index` of `langgraph.json` names a model (docs/semantic-search.md).
    """

    call_seconds: float = Field(
        10.0, gt=0, description="How long one call of the embedding model may take."
    )
    attempts: int = Field(
        3, ge=1, le=20, description="How often a call that fails is made, the first one included."
    )
    wait_seconds: float = Field(
        20.0,
        gt=0,
        description="How long a put or a search waits for the embedding model, repeated calls"
        " included; then 503.",
    )
    calls: int = Field(
        4, ge=1, description="Calls of the embedding model that a process makes at once."
    )
    batch_texts: int = Field(
        96, ge=1, description="Texts of one call. Puts that wait at the same time share calls."
    )
    batch_bytes: int = Field(
        256 * 1024, ge=1024, description="Bytes of the texts of one call, if it has several."
    )
    waiting_texts: int = Field(
        2000,
        ge=1,
        description="Texts that wait in a process for the embedding model; further puts get 503.",
    )
    item_texts: int = Field(
        100, ge=1, description="Texts of one item; an item with more is refused."
    )
    text_bytes: int = Field(
        32 * 1024,
        ge=16,
        description="Bytes of one text of an item; an item with a longer one is refused.",
    )
    exact_items: int = Field(
        2000,
        ge=0,
        description="A search below a namespace with at most so many items compares all of them;"
        " with more, it uses the index on the vectors.",
    )
    candidates: int = Field(
        100,
        ge=10,
        le=1000,
        description="Vectors that a search in an `hnsw` index looks at (`hnsw.ef_search`), and the"
        " more the better the result and the slower the search.",
    )
