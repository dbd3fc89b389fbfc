"""The assistant that a path names."""

from typing import Annotated

from fastapi import Path

#: An id, or the name of a graph; the service judges it.
PathAssistantId = Annotated[str, Path(max_length=1000)]
