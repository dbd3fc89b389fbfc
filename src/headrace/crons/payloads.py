"""What the runs of a cron do, as its row has it."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from headrace.db.jsonb import dump_jsonb, load_jsonb
from headrace.errors import InvalidRequest
from headrace.runs.schemas import RunCreate

#: Fields of a payload that do not change what the runs do.
_LABELS = frozenset({"enabled", "metadata", "schedule", "timezone"})


def run_body(payload: Mapping[str, Any], assistant_id: UUID) -> RunCreate:
    """The body of a run, from the payload of a cron.

    :raises InvalidRequest: its fields contradict each other, or this release refuses one.
    """
    try:
        return RunCreate.model_validate({**payload, "assistant_id": str(assistant_id)})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the cron"
        raise InvalidRequest(f"{where}: {first['msg']}") from None


def storable(payload: dict[str, Any], max_bytes: int) -> dict[str, Any]:
    """The payload as its column gives it back.

    :raises InvalidRequest: it is too large.
    """
    stored = dump_jsonb(payload)
    if len(stored) > max_bytes:
        raise InvalidRequest(
            f"The cron's payload is {len(stored)} bytes long; at most {max_bytes} are allowed"
            " (setting crons.max_payload_bytes). Put large values into the store."
        )
    found: dict[str, Any] = load_jsonb(stored)
    return found


def work_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What the runs do. When they do it, and what labels the cron, are left out."""
    return {name: value for name, value in payload.items() if name not in _LABELS}
