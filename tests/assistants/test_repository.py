"""Versions under concurrency, and of assistants that an earlier release has made."""

import asyncio
from collections import Counter

import pytest

from headrace.assistants.repository import AssistantRepository
from headrace.assistants.schemas import AssistantCreate, AssistantUpdate, VersionSearch
from headrace.assistants.service import AssistantService
from headrace.auth.principal import ANONYMOUS, Principal
from headrace.db.engine import Sessions, build_engine
from headrace.db.receipts import Receipts
from headrace.errors import AssistantExists, AssistantNotFound
from headrace.ids import system_assistant_id, uuid7
from tests.support.database import open_pool

EVE = Principal("eve", tenant="elsewhere")
ALL = VersionSearch(limit=100)


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url, pool_max=8) as opened:
        yield opened


@pytest.fixture
async def service(pool):
    engine = build_engine(pool)
    made = AssistantService(
        AssistantRepository(Sessions(engine, timeout_seconds=10), Receipts(pool)),
        ["agent", "chat"],
    )
    yield made
    await engine.dispose()


async def numbers(service, assistant_id, principal=ANONYMOUS):
    page = await service.versions(principal, str(assistant_id), ALL, service.reading())
    return [row.version for row in page.rows]


async def test_changes_at_once_are_a_version_each_and_lose_nothing(service):
    made = await service.create(ANONYMOUS, AssistantCreate(graph_id="agent"))
    changes = [AssistantUpdate(metadata={f"k{number}": number}) for number in range(12)]
    rows = await asyncio.gather(
        *[service.update(ANONYMOUS, str(made.assistant_id), change) for change in changes]
    )
    assert sorted(row.version for row in rows) == list(range(2, 14))
    assert await numbers(service, made.assistant_id) == list(range(13, 0, -1))
    latest = await service.get(ANONYMOUS, str(made.assistant_id))
    assert latest.metadata_ == {f"k{number}": number for number in range(12)}


async def test_who_takes_the_id_of_a_graph_that_is_yet_to_come_does_not_get_its_runs(service):
    """The id of a graph's assistant follows from its name."""
    taken = AssistantCreate(
        graph_id="chat", assistant_id=system_assistant_id("agent"), config={"tags": ["mine"]}
    )
    await service.create(EVE, taken)
    await service.update(EVE, str(taken.assistant_id), AssistantUpdate(name="mine"))
    await service.create_system({"agent": "The agent."})
    for principal in (ANONYMOUS, EVE):
        row = await service.get_for_run(principal, "agent")
        assert (row.tenant, row.graph_id, row.name) == ("system", "agent", "agent")
        assert (row.config, row.description) == ({}, "The agent.")
        assert await numbers(service, taken.assistant_id, principal) == [1]


async def test_of_creations_at_once_one_wins(service):
    body = AssistantCreate(graph_id="agent", assistant_id=uuid7())
    results = await asyncio.gather(
        *[service.create(ANONYMOUS, body) for _ in range(8)], return_exceptions=True
    )
    assert Counter(map(type, results))[AssistantExists] == 7


async def test_an_assistant_of_an_earlier_release_has_a_version_from_its_first_change_on(
    service, pool
):
    made = await service.create(ANONYMOUS, AssistantCreate(graph_id="agent", name="old"))
    async with pool.connection() as connection:
        await connection.execute("DELETE FROM assistant_versions")
    await service.update(ANONYMOUS, str(made.assistant_id), AssistantUpdate(graph_id="chat"))
    assert await numbers(service, made.assistant_id) == [2, 1]
    first = await service.set_latest(ANONYMOUS, str(made.assistant_id), 1)
    assert (first.name, first.graph_id) == ("old", "agent")


async def test_a_foreign_assistant_is_not_there(service):
    made = await service.create(ANONYMOUS, AssistantCreate(graph_id="agent"))
    reference = str(made.assistant_id)
    for call in (
        service.get(EVE, reference),
        service.update(EVE, reference, AssistantUpdate(name="mine")),
        service.set_latest(EVE, reference, 1),
        service.delete(EVE, reference),
        service.versions(EVE, reference, ALL, service.reading()),
    ):
        with pytest.raises(AssistantNotFound):
            await call
    taken = AssistantCreate(
        graph_id="agent", assistant_id=made.assistant_id, if_exists="do_nothing"
    )
    with pytest.raises(AssistantExists):
        await service.create(EVE, taken)
    assert await numbers(service, made.assistant_id) == [1]
