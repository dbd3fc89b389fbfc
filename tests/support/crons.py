"""Crons for tests: made through the service, and made due by hand."""

from typing import Any

from headrace.auth.principal import ANONYMOUS, Principal
from headrace.crons.schemas import CronCreate
from headrace.crons.service import CronService
from headrace.db.cron_tables import CronRow

HELLO: dict[str, Any] = {"messages": [("user", "hi")]}

#: Far from any slot that a test meets by chance.
YEARLY = "0 0 1 1 *"


async def create_cron(
    service: CronService,
    assistant_id: str = "agent",
    *,
    thread_id: str | None = None,
    headers: dict[str, str] | None = None,
    owner: Principal = ANONYMOUS,
    **body: Any,
) -> CronRow:
    """A cron; once a year, if ``body`` does not say."""
    wanted = {"assistant_id": assistant_id, "schedule": YEARLY, "input": HELLO, **body}
    return await service.create(
        owner, thread_id, CronCreate.model_validate(wanted), headers=headers or {}
    )


def make_due(database: Any, cron_id: Any, *, late: str = "0 s") -> Any:
    """Its slot was so long ago; returns the slot."""
    row = database.execute(
        "UPDATE crons SET next_run_date = date_trunc('milliseconds', now()) - %s::interval,"
        " look_at = now() - %s::interval WHERE cron_id = %s RETURNING next_run_date",
        (late, late, cron_id),
    ).fetchone()
    assert row is not None
    return row[0]


def row_of(database: Any, cron_id: Any) -> Any:
    """next_run_date, look_at, enabled and disabled_reason."""
    return database.execute(
        "SELECT next_run_date, look_at, enabled, disabled_reason FROM crons WHERE cron_id = %s",
        (cron_id,),
    ).fetchone()


def runs_of(database: Any, cron_id: Any) -> list[Any]:
    """Thread, slot, status, owner and kwargs of its runs."""
    return database.execute(  # type: ignore[no-any-return]
        "SELECT thread_id, (metadata->>'cron_slot')::timestamptz, status, owner, kwargs FROM runs"
        " WHERE metadata->>'cron_id' = %s ORDER BY run_id",
        (str(cron_id),),
    ).fetchall()
