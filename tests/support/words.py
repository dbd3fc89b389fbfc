"""A deterministic embedding model: the words of a text, hashed into a few numbers.

Texts with common words are close. Servers under test load it too.
"""

import hashlib
import math
import re
from collections.abc import Sequence

DIMS = 64


def vector(text: str, dims: int = DIMS) -> list[float]:
    """The counts of the words, each at the place of its hash, with the length 1."""
    counts = [0.0] * dims
    for word in re.findall(r"\w+", text.lower()):
        counts[int(hashlib.sha256(word.encode()).hexdigest(), 16) % dims] += 1.0
    length = math.sqrt(sum(one * one for one in counts))
    return [one / length for one in counts] if length else counts


def embed(texts: Sequence[str]) -> list[list[float]]:
    return [vector(text) for text in texts]


async def aembed(texts: Sequence[str]) -> list[list[float]]:
    return embed(texts)


def wider(texts: Sequence[str]) -> list[list[float]]:
    return [vector(text, 2 * DIMS) for text in texts]


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
