"""The run that a path names."""

from typing import Annotated

from fastapi import Path

#: As the client writes it; :func:`headrace.runs.service.run_id_from` judges it.
PathRunId = Annotated[str, Path(max_length=255)]
