"""What the semantic index of the store is: vectors of which size and type, and from which model."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

VectorType = Literal["vector", "halfvec"]
Distance = Literal["cosine", "l2", "inner_product"]
AnnKind = Literal["hnsw", "ivfflat", "flat"]

#: The table of the vectors, and the name of the index on them. Both are LangGraph's.
VECTORS, ANN_INDEX = "store_vectors", "store_vectors_embedding_idx"

#: The most dimensions for which pgvector makes an index.
INDEXED_DIMS: Mapping[VectorType, int] = MappingProxyType({"vector": 2000, "halfvec": 4000})

#: pgvector's operator of each distance, and the end of its operator class.
_OPERATORS: Mapping[Distance, tuple[str, str]] = MappingProxyType(
    {"cosine": ("<=>", "cosine_ops"), "l2": ("<->", "l2_ops"), "inner_product": ("<#>", "ip_ops")}
)


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """The index as ``langgraph.json`` names it.

    :ivar embed: the model, in the words of the manifest. A change means other vectors.
    :ivar fields: the paths in an item's value whose texts are embedded; ``$`` is the whole value.
    :ivar kind: the index on the vectors; ``flat``: none.
    :ivar options: parameters of that index, like ``m``.
    """

    dims: int
    embed: str
    fields: tuple[str, ...] = ("$",)
    vector_type: VectorType = "vector"
    distance: Distance = "cosine"
    kind: AnnKind = "hnsw"
    options: tuple[tuple[str, int], ...] = ()

    @property
    def column_type(self) -> str:
        """The type of the column, like ``vector(384)``."""
        return f"{self.vector_type}({self.dims})"

    @property
    def operator(self) -> str:
        """pgvector's operator, like ``<=>``. It gives less for vectors that are closer."""
        return _OPERATORS[self.distance][0]

    @property
    def operator_class(self) -> str:
        """The operator class of the index, like ``vector_cosine_ops``."""
        return f"{self.vector_type}_{_OPERATORS[self.distance][1]}"

    @property
    def ann(self) -> str | None:
        """The index on the vectors, as a database describes it; None if there should be none."""
        if self.kind == "flat":
            return None
        options = ",".join(f"{name}={value}" for name, value in sorted(self.options))
        return f"{self.kind} {self.operator_class} {options}".strip()

    def score(self, distance: float) -> float:
        """The score of an item: the higher, the closer. LangGraph's store gives the same one."""
        return 1 - distance if self.distance == "cosine" else -distance
