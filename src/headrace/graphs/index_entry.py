"""``store.index`` of ``langgraph.json``: the model, its vectors, and the index on them."""

from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from headrace.db.vector_index import INDEXED_DIMS, VectorIndex

#: pgvector stores no vectors with more dimensions.
_MOST_DIMS = 16_000

#: The options that each kind of index has.
_OPTIONS = {"hnsw": ("m", "ef_construction"), "ivfflat": ("lists",), "flat": ()}


class AnnEntry(BaseModel):
    """``ann_index_config``: the type of the vectors, and the index on them."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    kind: Literal["hnsw", "ivfflat", "flat"] = "hnsw"
    vector_type: Literal["vector", "halfvec"] = "vector"
    m: int | None = Field(None, ge=2, le=100)
    ef_construction: int | None = Field(None, ge=4, le=1000)
    lists: int | None = Field(
        None, ge=1, le=32_768, validation_alias=AliasChoices("lists", "nlist")
    )

    @model_validator(mode="after")
    def _options_of_its_kind(self) -> Self:
        for name in ("m", "ef_construction", "lists"):
            if getattr(self, name) is not None and name not in _OPTIONS[self.kind]:
                raise ValueError(f"an index of the kind {self.kind} has no {name}")
        return self

    @property
    def options(self) -> tuple[tuple[str, int], ...]:
        given = ((name, getattr(self, name)) for name in _OPTIONS[self.kind])
        return tuple((name, value) for name, value in given if value is not None)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value or ["$"]


FieldPath = Annotated[str, Field(min_length=1, max_length=200)]


class IndexEntry(BaseModel):
    """``store.index``. Keys that headrace does not know are refused: they would change results."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dims: int = Field(ge=1, le=_MOST_DIMS)
    embed: str
    fields: Annotated[tuple[FieldPath, ...], BeforeValidator(_listed), Field(max_length=20)] = (
        "$",
    )
    ann_index_config: AnnEntry = AnnEntry()
    distance_type: Literal["cosine", "l2", "inner_product"] = "cosine"

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        module, colon, name = self.embed.rpartition(":")
        if not (module and colon and name):
            raise ValueError(
                f"embed is {self.embed!r}, which is neither like openai:text-embedding-3-small nor"
                " like ./embed.py:function"
            )
        ann = self.ann_index_config
        most = INDEXED_DIMS[ann.vector_type]
        if ann.kind != "flat" and self.dims > most:
            other = ' or {"vector_type": "halfvec"}' if self.dims <= INDEXED_DIMS["halfvec"] else ""
            raise ValueError(
                f"pgvector makes no {ann.kind} index on a {ann.vector_type} of more than {most}"
                f' dimensions; set ann_index_config to {{"kind": "flat"}}{other}'
            )
        return self

    @property
    def names_code(self) -> bool:
        """Whether ``embed`` names an object in code of the user; else it names a provider."""
        module = self.embed.partition(":")[0]
        return "." in module or "/" in module

    def as_index(self) -> VectorIndex:
        """The index, for the store."""
        ann = self.ann_index_config
        return VectorIndex(
            dims=self.dims,
            embed=self.embed,
            fields=self.fields,
            vector_type=ann.vector_type,
            distance=self.distance_type,
            kind=ann.kind,
            options=ann.options,
        )
