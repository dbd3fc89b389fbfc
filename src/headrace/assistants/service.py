"""Rules of assistants: which one a name or id refers to, and who may change it."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from headrace.assistants.configuration import stored_configuration, updated_configuration
from headrace.assistants.repository import AssistantRepository
from headrace.assistants.schemas import (
    AssistantCreate,
    AssistantFilter,
    AssistantSearch,
    AssistantUpdate,
    VersionSearch,
)
from headrace.auth.handlers import Handlers
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

#: The name of an assistant that was created without one; the SDK documents it.
_UNNAMED = "Untitled"

#: How many assistants a process caches for the start of runs.
_MAX_CACHED = 256


class AssistantService:
    """
    :param graph_ids: the graphs of this server. It cannot run an assistant of another graph.
    """

    def __init__(
        self,
        repository: AssistantRepository,
        graph_ids: Sequence[str],
        memory: AnswerMemory | None = None,
        limits: RequestLimits | None = None,
        handlers: Handlers | None = None,
    ) -> None:
        self._handlers = handlers or Handlers()
        self._system_ids = frozenset(map(system_assistant_id, graph_ids))
        self._repository = repository
        self._memory = memory or AnswerMemory(AnswerSettings())
        self._graph_ids = frozenset(graph_ids)
        self._limits = limits or RequestLimits(RequestSettings())
        self._cache: OrderedDict[tuple[str, str | None, str], AssistantRow] = OrderedDict()

    async def create_system(self, descriptions: Mapping[str, str | None]) -> None:
        """Create the system assistant of each graph, or update its description.

        :param descriptions: the manifest's description of each graph, by graph id.
        """
        await self._repository.create_system(descriptions)

    async def create(
        self, principal: Principal, body: AssistantCreate, *, reader: Principal | None = None
    ) -> AssistantRow:
        """Create an assistant, or with ``if_exists=do_nothing`` return the existing one.

        :param reader: the caller as it may read an existing one; None: as it may create one.
        :raises GraphNotFound: this server does not have the graph.
        :raises AssistantExists: an assistant has this id already.
        """
        self._known_graph(body.graph_id)
        self._refuse_large(body)
        config, context = stored_configuration(body.config, body.context)
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
            row = await self._repository.get(reader or principal, assistant_id)
        if row is None:
            raise AssistantExists(f"Assistant {assistant_id} already exists")
        return row

    async def get(self, principal: Principal, reference: str) -> AssistantRow:
        """The assistant with this id, or the system assistant of the graph with this name.

        :raises InvalidRequest: ``reference`` is neither a UUID nor the name of a graph.
        :raises AssistantNotFound: the caller can see no assistant with this id.
        """
        assistant_id = self.id_of(reference)
        row = await self._repository.get(principal, assistant_id)
        if row is None:
            raise _not_found(assistant_id)
        return row

    async def user(self, principal: Principal, reference: str) -> Principal:
        """The caller as it may run an assistant: it must be able to read it.

        Everybody may run the assistants that the server has made of its graphs.

        :raises InvalidRequest: ``reference`` is neither a UUID nor the name of a graph.
        :raises RequestError: the caller may not read it.
        """
        assistant_id = self.id_of(reference)
        if assistant_id in self._system_ids:
            return principal.unfiltered
        value = {"assistant_id": assistant_id, "metadata": {}}
        return await self._handlers.authorize(principal, "assistants", "read", value)

    async def get_for_run(
        self, principal: Principal, reference: str, *, reload: bool = False
    ) -> AssistantRow:
        """As :meth:`get_runnable`, from this process's cache, which may be out of date.

        The start of a run compares ``updated_at`` in its own transaction, so a cached assistant
        costs no query. If it was out of date, call again with ``reload``.

        :param reload: read the database, not the cache.
        """
        key: tuple[str, str | None, str] = (principal.tenant, principal.owner, reference)
        if reference in self._graph_ids:
            # All callers see it.
            key = (SYSTEM_TENANT, None, reference)
        # With a filter, what the caller sees may change with the metadata of the assistant.
        cached = not principal.filter or key[0] == SYSTEM_TENANT
        row = self._cache.get(key) if cached and not reload else None
        if row is None:
            row = await self.get_runnable(principal, reference)
            if cached:
                self._cache[key] = row
            if len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)
        return row

    async def get_runnable(self, principal: Principal, reference: str) -> AssistantRow:
        """As :meth:`get`, if this server has its graph.

        :raises InvalidRequest: also when this server does not have the graph.
        """
        row = await self.get(principal, reference)
        if row.graph_id not in self._graph_ids:
            raise InvalidRequest(
                f"Assistant {row.assistant_id} needs the graph '{row.graph_id}', which this server"
                f" does not have; it has: {', '.join(sorted(self._graph_ids))}"
            )
        return row

    async def update(
        self, principal: Principal, reference: str, body: AssistantUpdate
    ) -> AssistantRow:
        """Make a new version, which runs use from now on.

        :raises GraphNotFound: the update names a graph that this server does not have.
        :raises SystemAssistant: the server owns the assistant.
        :raises AssistantNotFound: the caller can see no such assistant.
        """
        if body.graph_id is not None:
            self._known_graph(body.graph_id)
        self._refuse_large(body)

        def change(row: AssistantRow) -> dict[str, Any]:
            config, context = updated_configuration(
                row.config, row.context, body.config, body.context
            )
            described = "description" in body.model_fields_set
            metadata = {**row.metadata_, **(body.metadata or {})}
            if body.metadata:
                self._limits.metadata(metadata, "metadata, merged with the assistant's")
            return {
                "graph_id": body.graph_id or row.graph_id,
                "name": body.name if body.name is not None else row.name,
                "description": body.description if described else row.description,
                "config": config,
                "context": context,
                "metadata_": metadata,
            }

        assistant_id = self.id_of(reference)
        row = await self._repository.update(principal, assistant_id, change)
        return row or await self._refuse(principal, assistant_id)

    async def set_latest(self, principal: Principal, reference: str, version: int) -> AssistantRow:
        """Let runs use this version from now on.

        :raises SystemAssistant: the server owns it.
        :raises AssistantNotFound: there is no such assistant, or it has no such version.
        """
        assistant_id = self.id_of(reference)
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
        remover: Principal | None = None,
    ) -> None:
        """Delete an assistant with its versions. Accepted runs go on; its crons are disabled.

        :param threads: deletes the threads of the assistant, before the assistant: after a failure
            the caller can try again. None: the threads stay.
        :param remover: the caller as it may delete threads; None: as it may delete the assistant.
        :raises RunStillStopping: a run on one of its threads does not stop.
        :raises SystemAssistant: the server owns the assistant.
        :raises AssistantNotFound: the caller can see no such assistant.
        """
        assistant_id = self.id_of(reference)
        await self._own(principal, assistant_id)
        if threads is not None:
            await threads.delete_all_of_assistant(remover or principal, assistant_id)
        if not await self._repository.delete(principal, assistant_id):
            raise _not_found(assistant_id)

    async def search(
        self, principal: Principal, query: AssistantSearch, reading: Reading
    ) -> tuple[list[AssistantRow], bool]:
        """One page, and whether another one follows.

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
        """One page of an assistant's versions, newest first.

        :raises AssistantNotFound: the caller can see no such assistant.
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
        """Begin an answer with assistants. The caller releases it."""
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

    def id_of(self, reference: str) -> UUID:
        """The id that a name or id refers to, whether or not there is such an assistant.

        :raises InvalidRequest: ``reference`` is neither a UUID nor the name of a graph.
        """
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
        """
        :raises SystemAssistant: the caller can see it but not change it.
        :raises AssistantNotFound: the caller cannot see it.
        """
        row = await self._repository.get(principal, assistant_id)
        if row is None:
            raise _not_found(assistant_id)
        if row.tenant == SYSTEM_TENANT:
            raise SystemAssistant

    async def _refuse(self, principal: Principal, assistant_id: UUID) -> AssistantRow:
        await self._own(principal, assistant_id)
        # Another request has created or deleted the assistant meanwhile.
        raise _not_found(assistant_id)


def _not_found(assistant_id: UUID) -> AssistantNotFound:
    return AssistantNotFound(f"Assistant with ID {assistant_id} not found")
