"""Rules of assistants: what a name or an id stands for, and who may change one."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from headrace.assistants.content import changed, mirrored
from headrace.assistants.repository import AssistantRepository
from headrace.assistants.schemas import (
    AssistantCreate,
    AssistantFilter,
    AssistantSearch,
    AssistantUpdate,
    VersionSearch,
)
from headrace.auth.principal import SYSTEM_TENANT, Principal
from headrace.checkpoints.answer_memory import AnswerMemory, Reading
from headrace.checkpoints.row_pages import rows_within
from headrace.db.row_sizes import RowPage
from headrace.db.tables import AssistantRow, AssistantVersionRow
from headrace.errors import (
    AssistantExists,
    AssistantNotFound,
    GraphNotFound,
    InvalidRequest,
    SystemAssistant,
)
from headrace.ids import canonical_uuid, system_assistant_id, uuid7
from headrace.request_limits import RequestLimits
from headrace.request_settings import AnswerSettings, RequestSettings
from headrace.threads.removal import ThreadRemoval

#: What an assistant is called whose maker gave it no name; the SDK documents it.
_UNNAMED = "Untitled"

#: Assistants that runs were made from lately.
_RECENT = 256


class AssistantService:
    """``graph_ids`` are the graphs this server has; an assistant of another one cannot run here."""

    def __init__(
        self,
        repository: AssistantRepository,
        graph_ids: Sequence[str],
        memory: AnswerMemory | None = None,
        limits: RequestLimits | None = None,
    ) -> None:
        self._repository = repository
        self._memory = memory or AnswerMemory(AnswerSettings())
        self._graph_ids = frozenset(graph_ids)
        self._limits = limits or RequestLimits(RequestSettings())
        self._recent: OrderedDict[tuple[str, str], AssistantRow] = OrderedDict()

    async def create_system(self, descriptions: Mapping[str, str | None]) -> None:
        """Make sure that each graph has its first assistant.

        :param descriptions: what the manifest says of each graph, and so of its assistant.
        """
        await self._repository.create_system(descriptions)

    async def create(self, principal: Principal, body: AssistantCreate) -> AssistantRow:
        """A new assistant, or with ``if_exists=do_nothing`` the one that is there.

        :raises GraphNotFound: this server does not have the graph.
        :raises AssistantExists: the id is taken.
        """
        self._known_graph(body.graph_id)
        self._refuse_large(body)
        config, context = mirrored(body.config, body.context)
        assistant_id = body.assistant_id or uuid7()
        row = await self._repository.create_if_absent(
            principal,
            assistant_id,
            {
                "graph_id": body.graph_id,
                "name": body.name if body.name is not None else _UNNAMED,
                "description": body.description,
                "config": config,
                "context": context,
                "metadata_": body.metadata or {},
            },
        )
        if row is None and body.if_exists == "do_nothing":
            row = await self._repository.get(principal, assistant_id)
        if row is None:
            raise AssistantExists(f"Assistant {assistant_id} already exists")
        return row

    async def get(self, principal: Principal, reference: str) -> AssistantRow:
        """The assistant with this id, or the first one of the graph with this name.

        :raises InvalidRequest: neither a UUID nor a graph's name.
        :raises AssistantNotFound: a UUID that stands for nothing the caller may see.
        """
        assistant_id = self._id(reference)
        row = await self._repository.get(principal, assistant_id)
        if row is None:
            raise _not_found(assistant_id)
        return row

    async def get_for_run(
        self, principal: Principal, reference: str, *, anew: bool = False
    ) -> AssistantRow:
        """As :meth:`get_runnable`, but perhaps as it was a while ago.

        A run that is made from it starts only if it is still the same, by its ``updated_at``: the
        transaction of the start says so without a query of its own.

        :param anew: it was not.
        """
        key = (principal.tenant, reference)
        row = None if anew else self._recent.get(key)
        if row is None:
            row = await self.get_runnable(principal, reference)
            self._recent[key] = row
            if len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        return row

    async def get_runnable(self, principal: Principal, reference: str) -> AssistantRow:
        """As :meth:`get`, and its graph is one this server has."""
        row = await self.get(principal, reference)
        if row.graph_id not in self._graph_ids:
            raise InvalidRequest(
                f"Assistant {row.assistant_id} is of graph '{row.graph_id}', which this server does"
                f" not have; it has: {', '.join(sorted(self._graph_ids))}"
            )
        return row

    async def update(
        self, principal: Principal, reference: str, body: AssistantUpdate
    ) -> AssistantRow:
        """Make a new version, which runs use from now on.

        :raises GraphNotFound: it is to be of a graph that this server does not have.
        :raises SystemAssistant: it is the server's.
        :raises AssistantNotFound: there is none that the caller may see.
        """
        if body.graph_id is not None:
            self._known_graph(body.graph_id)
        self._refuse_large(body)

        def change(row: AssistantRow) -> dict[str, Any]:
            config, context = changed(row.config, row.context, body.config, body.context)
            described = "description" in body.model_fields_set
            metadata = {**row.metadata_, **(body.metadata or {})}
            if body.metadata:
                self._limits.metadata(metadata, "metadata, with what the assistant has")
            return {
                "graph_id": body.graph_id or row.graph_id,
                "name": body.name if body.name is not None else row.name,
                "description": body.description if described else row.description,
                "config": config,
                "context": context,
                "metadata_": metadata,
            }

        assistant_id = self._id(reference)
        row = await self._repository.update(principal, assistant_id, change)
        return row or await self._refuse(principal, assistant_id)

    async def set_latest(self, principal: Principal, reference: str, version: int) -> AssistantRow:
        """Let runs use this version from now on.

        :raises SystemAssistant: it is the server's.
        :raises AssistantNotFound: there is no such assistant, or it has no such version.
        """
        assistant_id = self._id(reference)
        row = await self._repository.set_latest(principal, assistant_id, version)
        if row is None:
            await self._own(principal, assistant_id)
            raise AssistantNotFound(f"Assistant with ID {assistant_id} has no version {version}")
        return row

    async def delete(
        self,
        principal: Principal,
        reference: str,
        *,
        threads: ThreadRemoval | None = None,
    ) -> None:
        """Delete it with its versions; runs that were accepted go on.

        :param threads: its threads are deleted too, and before it: after a failure the caller can
            try again. None: they stay.
        :raises RunStillStopping: a run on one of its threads does not stop.
        :raises SystemAssistant: it is the server's.
        :raises AssistantNotFound: there is none that the caller may see.
        """
        assistant_id = self._id(reference)
        await self._own(principal, assistant_id)
        if threads is not None:
            await threads.delete_all_of_assistant(principal, assistant_id)
        if not await self._repository.delete(principal, assistant_id):
            raise _not_found(assistant_id)

    async def search(
        self, principal: Principal, query: AssistantSearch, reading: Reading
    ) -> tuple[list[AssistantRow], bool]:
        """One page, and whether there is another.

        :raises AnswersFull: as :func:`rows_within`.
        """

        self._limits.filter(query.metadata, "metadata")

        async def read(max_bytes: int) -> RowPage[AssistantRow]:
            limit = query.limit + 1
            return await self._repository.search(principal, query, limit=limit, max_bytes=max_bytes)

        page = await rows_within(reading, read)
        return list(page.rows[: query.limit]), page.found > min(len(page.rows), query.limit)

    async def count(self, principal: Principal, query: AssistantFilter) -> int:
        self._limits.filter(query.metadata, "metadata")
        return await self._repository.count(principal, query)

    async def versions(
        self, principal: Principal, reference: str, query: VersionSearch, reading: Reading
    ) -> RowPage[AssistantVersionRow]:
        """One page of them, newest first.

        :raises AssistantNotFound: there is no such assistant that the caller may see.
        :raises AnswersFull: as :func:`rows_within`.
        """
        self._limits.filter(query.metadata, "metadata")
        row = await self.get(principal, reference)

        async def read(max_bytes: int) -> RowPage[AssistantVersionRow]:
            return await self._repository.versions(
                principal, row.assistant_id, query, max_bytes=max_bytes
            )

        return await rows_within(reading, read)

    def reading(self) -> Reading:
        """Of an answer with assistants; the caller releases it."""
        return self._memory.reading()

    def _refuse_large(self, body: AssistantCreate | AssistantUpdate) -> None:
        self._limits.config(body.config)
        self._limits.configuration(body.context, "context")
        self._limits.metadata(body.metadata)

    def _known_graph(self, graph_id: str) -> None:
        if graph_id not in self._graph_ids:
            raise GraphNotFound(
                f"Graph '{graph_id}' not found. Expected one of: {sorted(self._graph_ids)}"
            )

    def _id(self, reference: str) -> UUID:
        if reference in self._graph_ids:
            return system_assistant_id(reference)
        canonical = canonical_uuid(reference)
        if canonical is None:
            raise InvalidRequest(
                f"Invalid assistant: '{reference}'. Must be an assistant's UUID or one of the"
                f" graphs: {', '.join(sorted(self._graph_ids))}"
            )
        return UUID(canonical)

    async def _own(self, principal: Principal, assistant_id: UUID) -> None:
        """Refuse what the caller may see but not change."""
        row = await self._repository.get(principal, assistant_id)
        if row is None:
            raise _not_found(assistant_id)
        if row.tenant == SYSTEM_TENANT != principal.tenant:
            raise SystemAssistant

    async def _refuse(self, principal: Principal, assistant_id: UUID) -> AssistantRow:
        await self._own(principal, assistant_id)
        # Deleted, or made, in between.
        raise _not_found(assistant_id)


def _not_found(assistant_id: UUID) -> AssistantNotFound:
    return AssistantNotFound(f"Assistant with ID {assistant_id} not found")
