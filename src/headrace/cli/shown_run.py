"""``headrace runs show`` itself: prints the timeline of a run, as text or as JSON."""

import sys
from collections.abc import Sequence
from uuid import UUID

from pydantic import ValidationError
from pydantic_settings import SettingsError

from headrace.cli.options import settings_refusal
from headrace.cli.output import complain, drop_output, unwritten
from headrace.cli.run_text import lines
from headrace.db import schema
from headrace.db.faults import refused_statements
from headrace.db.pool import Connection
from headrace.errors import StartupRefusal
from headrace.events.json_encoding import encode_json
from headrace.ids import canonical_uuid
from headrace.runs.timeline_repository import RunRecord, read_record
from headrace.runs.timeline_service import told
from headrace.server.own_secrets import mask_tracebacks
from headrace.settings import Settings


def main(arguments: Sequence[str]) -> int:
    """Print a run; the exit code is 1 if there is no such run.

    :param arguments: ``json`` or ``text``, how many checkpoints to show, and the run's id.
    """
    form, limit, run_id = arguments
    canonical = canonical_uuid(run_id)
    try:
        record = _read(UUID(canonical), int(limit)) if canonical else None
    except (ValidationError, SettingsError) as error:
        return _fail(settings_refusal(error))
    except StartupRefusal as refusal:
        return _fail(refusal)
    if record is None:
        return _fail(
            f"There is no run {run_id}. A run is deleted with its thread, by a rollback, and by"
            " retention."
        )
    timeline, _ = told(record)
    if form == "json":
        text = encode_json(timeline.model_dump()).decode()
    else:
        text = "\n".join(lines(timeline))
    return _print(text)


def _read(run_id: UUID, limit: int) -> RunRecord | None:
    """:raises StartupRefusal: the database cannot be reached, is no database of this release, or
    refuses a statement.
    """
    settings = Settings()
    database, seconds = settings.database, settings.requests.list_timeout_seconds

    async def read(connection: Connection) -> RunRecord | None:
        return await read_record(
            connection,
            run_id,
            principal=None,
            thread_id=None,
            limit=limit,
            offset=0,
            timeout_seconds=seconds,
        )

    with refused_statements():
        return schema.ask(database, read, timeout_seconds=database.open_timeout_seconds + seconds)


def _print(text: str) -> int:
    """The exit code: 1 if the text is not taken to its end: by ``| head``, or by a full disk."""
    if sys.stdout is None:
        return 0
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        drop_output()
        return 1 if isinstance(error, BrokenPipeError) else _fail(unwritten(error))
    return 0


def _fail(sentence: str | StartupRefusal) -> int:
    complain(sentence)
    return 1


if __name__ == "__main__":
    mask_tracebacks()
    sys.exit(main(sys.argv[1:]))
