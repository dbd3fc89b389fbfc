"""The tables of the semantic index: made, adopted, and refused where they do not fit."""

import asyncio

import psycopg
import pytest

from headrace.db.migrate import prepare_index
from headrace.db.vector_index import VectorIndex
from headrace.errors import StartupRefusal
from tests.checkpoints.indexed import INDEX, open_store
from tests.support.database import database_settings, open_pool


def test_they_are_made_once(database_url, database):
    settings = database_settings(database_url)
    first, second = prepare_index(settings, INDEX), prepare_index(settings, INDEX)
    assert (first.made, first.adopted, first.unindexed) == (True, False, 0)
    assert (second.made, second.adopted) == (False, False)
    recorded = database.execute("SELECT dims, vector_type, embed, fields FROM store_index")
    assert recorded.fetchall() == [(64, "vector", "./words.py:embed", ["text"])]
    assert database.execute("SELECT v FROM vector_migrations ORDER BY v").fetchall() == [
        (0,),
        (1,),
        (2,),
    ]


async def test_eight_at_once_all_succeed(database_url):
    settings = database_settings(database_url)
    found = await asyncio.gather(
        *[asyncio.to_thread(prepare_index, settings, INDEX) for _ in range(8)]
    )
    assert sum(one.made for one in found) == 1


def test_items_without_vectors_are_counted(database_url, database):
    database.execute("INSERT INTO store (prefix, key, value) VALUES ('a', 'b', '{}')")
    assert prepare_index(database_settings(database_url), INDEX).unindexed == 1


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (VectorIndex(dims=32, embed=INDEX.embed), r"vector\(32\)"),
        (VectorIndex(dims=64, embed=INDEX.embed, vector_type="halfvec"), r"halfvec\(64\)"),
        (VectorIndex(dims=64, embed="openai:other"), "openai:other"),
    ],
)
def test_other_vectors_are_refused_with_the_command(database_url, index, said):
    settings = database_settings(database_url)
    prepare_index(settings, INDEX)
    with pytest.raises(StartupRefusal, match=f"HR333.*{said}.*headrace store reindex"):
        prepare_index(settings, index)


async def test_a_server_refuses_tables_that_are_not_there(database_url):
    async with open_pool(database_url) as pool:
        with pytest.raises(StartupRefusal, match=r"HR331.*pgvector"):
            async with open_store(database_url, pool, prepared=False):
                pass
        async with pool.connection() as connection:
            await connection.execute("CREATE EXTENSION vector")
        with pytest.raises(StartupRefusal, match=r"HR332.*headrace db upgrade"):
            async with open_store(database_url, pool, prepared=False):
                pass


def test_a_role_that_may_not_make_the_extension_is_told_so(database_url, database):
    database.execute("CREATE ROLE vectorless LOGIN")
    try:
        database.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO vectorless")
        url = psycopg.conninfo.make_conninfo(database_url, user="vectorless")
        with pytest.raises(StartupRefusal, match=r"HR331.*vectorless may not create"):
            prepare_index(database_settings(url), INDEX)
    finally:
        database.execute("DROP OWNED BY vectorless")
        database.execute("DROP ROLE vectorless")


def test_a_table_of_another_application_is_left_alone(database_url, database):
    database.execute("CREATE TABLE store_vectors (id int)")
    with pytest.raises(StartupRefusal, match="HR317"):
        prepare_index(database_settings(database_url), INDEX)
    assert database.execute("SELECT count(*) FROM store_vectors").fetchone() == (0,)
