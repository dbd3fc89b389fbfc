"""The share of one caller, which holds while there are several (:mod:`headrace.shares`).

The settings may say that there are several: two keys, tokens, a handler of the user. If they do
not, one caller remains: the key of the settings, or anonymous. Then each key of the database is
another caller. Such keys are made and revoked while the process serves, so it asks for them again.
"""

import structlog

from headrace.auth.repository import KeyRepository
from headrace.db.pool import SharedPool
from headrace.lifecycle import Tasks
from headrace.server.database import refused_start
from headrace.settings import Settings
from headrace.shares import Share

_log = structlog.stdlib.get_logger("headrace.places")

#: Processes that started together do not ask at the same moments.
_JITTER = 0.3


async def open_share(settings: Settings, pool: SharedPool, tasks: Tasks) -> Share:
    """The share, kept right until the tasks are stopped.

    :raises StartupRefusal: HR301 the database does not answer.
    """
    share = Share(settings.callers.share, several=settings.several_callers)
    if settings.several_callers or settings.callers.share == 1.0:
        return share
    keys = KeyRepository(pool)

    async def look() -> None:
        if share.divide(await keys.any_valid()):
            _log.info("caller_share_changed", share=share.now, several=share.several)

    with refused_start(settings.database, pool):
        await look()
    tasks.repeat(
        look,
        every_seconds=settings.auth.keys_refresh_seconds,
        name="caller-share",
        log=_log,
        skipped_event="caller_share_not_refreshed",
        jitter=_JITTER,
    )
    return share
