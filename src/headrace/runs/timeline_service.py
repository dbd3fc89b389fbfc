"""Reads the timeline of a run for the caller who may see it."""

from uuid import UUID

from headrace.auth.principal import Principal
from headrace.checkpoints.run_checkpoints import MOST_CHECKPOINTS
from headrace.errors import RunNotFound
from headrace.runs.timeline import Telling
from headrace.runs.timeline_repository import RunRecord, TimelineRepository
from headrace.runs.timeline_schemas import RunTimeline


class TimelineService:
    def __init__(self, repository: TimelineRepository) -> None:
        self._repository = repository

    async def read(
        self, principal: Principal, thread_id: str, run_id: UUID, *, limit: int, offset: int
    ) -> tuple[RunTimeline, int | None]:
        """The timeline of a run, and the offset of the page with older checkpoints, if any.

        :param limit, offset: of the page of checkpoints; the newest checkpoint has the offset 0.
        :raises RunNotFound: the caller may see no such run, or it is being rolled back.
        :raises Unavailable: the database did not answer in time.
        """
        record = await self._repository.read(
            principal, thread_id, run_id, limit=limit, offset=offset
        )
        if record is None:
            raise RunNotFound(f"Run with ID {run_id} not found")
        return told(record, offset=offset)


def told(record: RunRecord, *, offset: int = 0) -> tuple[RunTimeline, int | None]:
    """The timeline of a record, and the offset of the next page, if there is one."""
    shown = len(record.checkpoints.page)
    left_out = shown < record.checkpoints.count or record.checkpoints.count == MOST_CHECKPOINTS
    more = shown and offset + shown < record.checkpoints.count
    timeline = Telling(record, truncated=left_out).timeline()
    return timeline, offset + shown if more else None
