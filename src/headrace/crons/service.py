"""Rules of crons: creating, changing, reading and deleting them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from uuid import UUID

import structlog

from headrace.assistants.service import AssistantService
from headrace.auth.handlers import Handlers
from headrace.auth.principal import Principal
from headrace.auth.run_callers import restored, stored_auth
from headrace.checkpoints.answer_memory import AnswerMemory, Reading
from headrace.checkpoints.row_pages import rows_within
from headrace.cron_settings import CronSettings
from headrace.crons.payloads import run_body, storable, work_of
from headrace.crons.repository import CronRepository
from headrace.crons.schemas import CronCreate, CronFilter, CronPatch, CronSearch
from headrace.crons.slots import CronSlots
from headrace.db.cron_tables import CronRow
from headrace.db.row_sizes import RowPage
from headrace.db.tables import AssistantRow
from headrace.errors import CronChanged, CronNotFound, CronOfAnother, InvalidRequest, TooManyCrons
from headrace.idempotency.schemas import RequestKey
from headrace.idempotency.service import IdempotencyService
from headrace.ids import canonical_uuid, uuid7
from headrace.notices.notifier import Notifier
from headrace.request_limits import RequestLimits
from headrace.runs.named_checkpoint import named_checkpoint
from headrace.runs.run_requests import RunRequests
from headrace.runs.schemas import RunCreate
from headrace.threads.service import ThreadService

_log = structlog.stdlib.get_logger("headrace.crons")

#: How often a change is tried, if a run or another change comes between.
_CHANGE_TRIES = 5


class CronService:
    def __init__(
        self,
        repository: CronRepository,
        assistants: AssistantService,
        threads: ThreadService,
        requests: RunRequests,
        keys: IdempotencyService,
        notifier: Notifier,
        memory: AnswerMemory,
        limits: RequestLimits,
        settings: CronSettings,
        handlers: Handlers | None = None,
    ) -> None:
        self._handlers = handlers or Handlers()
        self._repository = repository
        self._assistants = assistants
        self._threads = threads
        self._requests = requests
        self._keys = keys
        self._notifier = notifier
        self._memory = memory
        self._limits = limits
        self._settings = settings
        self._slots = CronSlots(repository, settings)

    async def create(
        self,
        principal: Principal,
        thread_id: str | None,
        body: CronCreate,
        *,
        headers: Mapping[str, str],
        key: RequestKey | None = None,
    ) -> CronRow:
        """A new cron. Everything that its runs need is checked now, as for a run.

        :param thread_id: the thread of all its runs; None: each run gets a thread of its own.
        :param headers: headers of the request, for ``configurable`` of its runs.
        :param key: a retry with this key gets the cron that the first try has made.
        :raises InvalidRequest, BadRequest: a run, or the schedule, is refused.
        :raises AssistantNotFound, ThreadNotFound: the caller may see none.
        :raises TooManyCrons: the owner has as many as it may have.
        """
        if key is None:
            return await self._create(principal, uuid7(), thread_id, body, headers)
        reserved = await self._keys.reserve(principal, key)
        cron_id = reserved.resource_id
        if reserved.made:
            return await self.get(principal, cron_id)
        async with self._keys.making(principal, key):
            row = await self._create(principal, cron_id, thread_id, body, headers)
        await self._keys.confirm(principal, key, str(cron_id))
        return row

    async def _create(
        self,
        principal: Principal,
        cron_id: UUID,
        thread_id: str | None,
        body: CronCreate,
        headers: Mapping[str, str],
    ) -> CronRow:
        if thread_id is not None:
            await self._threads.get(await self._handlers.reader(principal, thread_id), thread_id)
        user = await self._assistants.user(principal, body.assistant_id)
        assistant = await self._assistants.get_runnable(user, body.assistant_id)
        starter = await self._check_run(principal, thread_id, body, assistant, headers)
        if thread_id is not None:
            await self._threads.get(starter, thread_id)
        payload = storable(body.payload(), self._settings.max_payload_bytes)
        first = await self._slots.first(body.schedule, body.timezone, body.end_time)
        most = self._settings.max_per_owner
        if await self._repository.owned(principal) >= most:
            raise TooManyCrons(
                f"You have {most} crons, as many as crons.max_per_owner allows. Delete some."
            )
        content = {
            "assistant_id": assistant.assistant_id,
            "thread_id": thread_id,
            "schedule": body.schedule,
            "timezone": body.timezone,
            "end_time": body.end_time,
            "enabled": body.enabled,
            "on_run_completed": _on_run_completed(thread_id, body.on_run_completed),
            "payload": payload,
            "metadata_": payload.get("metadata") or {},
            "headers": dict(headers),
            "next_run_date": first,
            "look_at": first if body.enabled else None,
        }
        await self._repository.create_if_absent(principal, cron_id, content)
        self._notifier.crons_changed()
        row = await self.get(principal, cron_id)
        _log.info("cron_created", **_names(row), schedule=row.schedule, timezone=row.timezone)
        return row

    async def get(self, principal: Principal, cron_id: UUID) -> CronRow:
        """:raises CronNotFound: the caller may see no such cron."""
        row = await self._repository.get(principal, cron_id)
        if row is None:
            raise _not_found(cron_id)
        return row

    async def update(
        self,
        principal: Principal,
        cron_id: UUID,
        patch: CronPatch,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> CronRow:
        """Change a cron; runs that it has made already stay as they are.

        :param headers: headers of the request, for ``configurable`` of its runs. Those of its owner
            replace the stored ones: all, if what the runs do changes; else those of equal name.
        :raises CronNotFound: the caller may see no such cron.
        :raises CronChanged: it changes all the time.
        :raises CronOfAnother: the patch changes what its runs do, and they are another caller's.
        :raises InvalidRequest, BadRequest, AssistantNotFound: as :meth:`create`.
        """
        for _ in range(_CHANGE_TRIES):
            row = await self.get(principal, cron_id)
            values = await self._changes(principal, row, patch, headers)
            changed = await self._repository.update_if_unchanged(principal, row, values)
            if changed is not None:
                self._notifier.crons_changed()
                _log.info("cron_updated", **_names(changed), fields=sorted(patch.model_fields_set))
                return changed
        raise CronChanged

    async def _changes(
        self, principal: Principal, row: CronRow, patch: CronPatch, sent: Mapping[str, str]
    ) -> dict[str, Any]:
        """The columns that the patch changes, checked together with those that stay.

        An owner that changes what the runs do gives them its present rights, as when it makes a
        cron.
        """
        given = patch.model_fields_set
        named_checkpoint(patch, row.thread_id)
        reference = patch.assistant_id or str(row.assistant_id)
        payload = storable(patch.changed_payload(row.payload), self._settings.max_payload_bytes)
        is_owner = (principal.tenant, principal.identity) == (row.tenant, row.owner)
        changes_work = self._assistants.id_of(reference) != row.assistant_id or work_of(
            payload
        ) != work_of(row.payload)
        if changes_work and not is_owner:
            raise CronOfAnother
        headers = row.headers
        if is_owner:
            # Other work does not get the secrets that an earlier request has sent.
            headers = dict(sent) if changes_work else {**row.headers, **sent}
            changes_work = changes_work or headers != row.headers
        acting = principal if is_owner else restored(row.tenant, row.owner, row.caller, row.auth)
        user = await self._assistants.user(acting, reference)
        assistant = await self._assistants.get_runnable(user, reference)
        body = run_body(payload, assistant.assistant_id)
        starter = await self._check_run(acting, row.thread_id, body, assistant, headers)
        rights: dict[str, Any] = {}
        if changes_work:
            if row.thread_id is not None:
                for seeing in (await self._handlers.reader(acting, row.thread_id), starter):
                    await self._threads.get(seeing, row.thread_id)
            rights = {"caller": principal.caller, "auth": stored_auth(principal)}
        values: dict[str, Any] = {
            **rights,
            "assistant_id": assistant.assistant_id,
            "payload": payload,
            "metadata_": payload.get("metadata") or {},
            "headers": headers,
        }
        for name in ("schedule", "timezone", "end_time", "enabled"):
            if name in given:
                values[name] = getattr(patch, name)
        if "on_run_completed" in given:
            values["on_run_completed"] = _on_run_completed(row.thread_id, patch.on_run_completed)
        return {**values, **await self._slots.moved(row, values)}

    async def delete(self, principal: Principal, cron_id: UUID) -> None:
        """Delete a cron; runs that it has made already go on.

        :raises CronNotFound: the caller may see no such cron.
        """
        if not await self._repository.delete(principal, cron_id):
            raise _not_found(cron_id)
        _log.info("cron_deleted", cron_id=str(cron_id))

    async def search(
        self, principal: Principal, query: CronSearch, reading: Reading
    ) -> tuple[list[CronRow], bool]:
        """One page, newest first by default, and whether another one follows.

        :raises AnswersFull: as :func:`rows_within`.
        """
        conditions = await self._conditions(principal, query)
        without = {"payload", "metadata"}.difference(query.select or ("payload", "metadata"))

        async def read(max_bytes: int) -> RowPage[CronRow]:
            return await self._repository.search(
                principal,
                conditions,
                sort_by=query.sort_by or "created_at",
                descending=query.sort_order != "asc",
                limit=query.limit + 1,
                offset=query.offset,
                max_bytes=max_bytes,
                without=frozenset(without),
            )

        page = await rows_within(reading, read)
        return list(page.rows[: query.limit]), page.found > min(len(page.rows), query.limit)

    async def count(self, principal: Principal, query: CronFilter) -> int:
        """How many crons match the filter."""
        return await self._repository.count(principal, await self._conditions(principal, query))

    def reading(self) -> Reading:
        """Begin an answer with crons. The caller releases it."""
        return self._memory.reading()

    async def _conditions(self, principal: Principal, query: CronFilter) -> dict[str, Any]:
        self._limits.filter(query.metadata, "metadata")
        conditions: dict[str, Any] = {}
        if query.assistant_id is not None:
            conditions["assistant_id"] = self._assistants.id_of(query.assistant_id)
        if query.thread_id is not None:
            conditions["thread_id"] = await self._threads.stored_id(
                principal.unfiltered, query.thread_id
            )
        if query.enabled is not None:
            conditions["enabled"] = query.enabled
        if query.metadata:
            conditions["metadata"] = query.metadata
        return conditions

    async def _check_run(
        self,
        principal: Principal,
        thread_id: str | None,
        body: RunCreate,
        assistant: AssistantRow,
        headers: Mapping[str, str],
    ) -> Principal:
        """Make the request of a run, as each slot will, and throw it away.

        :returns: the caller as it may start the run.
        :raises InvalidRequest, BadRequest: no run can be made of it.
        """
        if named_checkpoint(body, thread_id) is not None:
            raise InvalidRequest(
                "config.configurable: each run of a cron starts from the thread's latest"
                " checkpoint; leave the checkpoint out"
            )
        request = await self._requests.complete(
            principal.unfiltered,
            thread_id,
            body,
            assistant,
            uuid7(),
            request_id="",
            trace=None,
            any_thread_id=False,
            background=True,
            key=None,
            headers=headers,
        )
        return request.principal


def cron_id_from(value: str) -> UUID:
    """:raises InvalidRequest: not a UUID."""
    canonical = canonical_uuid(value)
    if canonical is None:
        raise InvalidRequest("Invalid cron ID: must be a UUID")
    return UUID(canonical)


def _on_run_completed(thread_id: str | None, given: str | None) -> str | None:
    """:raises InvalidRequest: the thread of a cron is not deleted with a run."""
    if thread_id is None:
        return given or "delete"
    if given == "delete":
        raise InvalidRequest(
            "on_run_completed: delete is for crons without a thread; this cron's thread stays."
            " Leave it out"
        )
    return None


def _names(row: CronRow) -> dict[str, Any]:
    return {
        "cron_id": str(row.cron_id),
        "thread_id": row.thread_id,
        "next_run_date": None if row.next_run_date is None else row.next_run_date.isoformat(),
        "enabled": row.enabled,
    }


def _not_found(cron_id: UUID) -> CronNotFound:
    return CronNotFound(f"Cron with ID {cron_id} not found")
