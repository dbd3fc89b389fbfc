"""SQL that matters stands in files of its own: named, commented, loaded once."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType


@cache
def named_statements(package: str, filename: str) -> Mapping[str, bytes]:
    """The statements of a file by the name that ``-- name:`` gives each, without comments."""
    text = files(package).joinpath(filename).read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)[1:]
    return MappingProxyType(
        {
            name: _without_comments(body).encode()
            for name, body in zip(parts[::2], parts[1::2], strict=True)
        }
    )


def _without_comments(body: str) -> str:
    lines = [line for line in body.splitlines() if not line.lstrip().startswith("--")]
    return "\n".join(lines).strip()
