"""What a model gives for vectors, checked and written as pgvector reads them."""

from collections.abc import Mapping
from typing import Any

import orjson

from headrace.db.vector_index import VectorIndex, VectorType

#: A vector as pgvector reads it: ``[0.25,1.0]``.
VectorText = str

#: The largest numbers of single and of half precision.
_LARGEST: Mapping[VectorType, float] = {"vector": 3.4028234e38, "halfvec": 65504.0}


class ModelFault(Exception):
    """A call of the model came to nothing.

    :param reason: one of ``index_metrics.FAILURES``.
    """

    def __init__(self, reason: str, what: str, *, repeatable: bool) -> None:
        super().__init__(what)
        self.reason = reason
        self.repeatable = repeatable


class VectorTexts:
    """Checks and writes the vectors of one index, which have one size and one type."""

    def __init__(self, index: VectorIndex) -> None:
        self._index = index

    def checked(self, found: Any, count: int) -> list[VectorText]:
        """Vectors of the model as pgvector reads them.

        :raises ModelFault: these are not so many vectors of this size.
        """
        try:
            if not hasattr(found, "__len__") or len(found) != count:
                raise ModelFault("unfit", f"it gave no list of {count} vectors", repeatable=False)
            return [self._written(vector) for vector in found]
        except ModelFault:
            raise
        except Exception as error:
            # An object of the user's model may raise anything: an array of no dimensions has no
            # length.
            raise ModelFault(
                "unfit", f"it gave no list of vectors ({type(error).__name__})", repeatable=False
            ) from error

    def _written(self, vector: Any) -> VectorText:
        dims = self._index.dims
        if not hasattr(vector, "__len__") or len(vector) != dims:
            size = len(vector) if hasattr(vector, "__len__") else "no"
            raise ModelFault(
                "unfit",
                f"a vector has {size} numbers, and store.index.dims is {dims}",
                repeatable=False,
            )
        try:
            text = orjson.dumps(
                vector if isinstance(vector, list) else list(vector),
                option=orjson.OPT_SERIALIZE_NUMPY,
            )
        except TypeError as error:
            raise ModelFault(
                "unfit", f"a vector has no numbers ({error})", repeatable=False
            ) from None
        if b"n" in text or b'"' in text:
            # JSON writes a number that is none as null.
            raise ModelFault("unfit", "a vector has values that are no numbers", repeatable=False)
        self._refuse_large(orjson.loads(text))
        return text.decode()

    def _refuse_large(self, vector: list[Any]) -> None:
        """Refuse what pgvector cannot store: else the caller would be blamed for the model.

        :raises ModelFault: a value is a list, or out of range.
        """
        largest = _LARGEST[self._index.vector_type]
        if any(isinstance(one, list | dict) or abs(one) > largest for one in vector):
            raise ModelFault(
                "unfit",
                f"a vector has values that are no numbers up to {largest:g}",
                repeatable=False,
            )
