"""Lists of runs: newest first, also where many were made within one millisecond."""

from itertools import groupby
from uuid import UUID

from headrace.ids import uuid7
from tests.support.apps import app_client, settings_for
from tests.support.live import GRAPHS

COUNT = 20


def ids_of_one_millisecond() -> list[UUID]:
    """In the order in which they were made."""
    while True:
        made = [uuid7() for _ in range(10 * COUNT)]
        for _, group in groupby(made, key=lambda one: one.int >> 80):
            if len(ids := list(group)) >= COUNT:
                return ids[:COUNT]


async def test_runs_of_one_millisecond_are_listed_in_the_order_of_creation(database, database_url):
    ids = ids_of_one_millisecond()
    database.execute("INSERT INTO threads (thread_id) VALUES ('t')")
    for run_id in ids:
        database.execute(
            "INSERT INTO runs (run_id, thread_id, assistant_id, graph_id, status, ended_at)"
            " VALUES (%s, 't', %s, 'agent', 'success', now())",
            (run_id, UUID(int=1)),
        )
    async with app_client(settings_for(database_url, GRAPHS)) as http:
        listed = (await http.get("/threads/t/runs", params={"limit": COUNT})).json()
    assert [run["run_id"] for run in listed] == [str(run_id) for run_id in reversed(ids)]
