"""What Postgres and the driver raise while a database is away reaches callers as one refusal."""

import asyncio

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from headrace.db.engine import Sessions, build_engine
from headrace.db.faults import DATABASE_ERRORS, passes, translated_faults
from headrace.db.transactions import locking_transaction
from headrace.unavailable_errors import DatabaseUnavailable, Unavailable
from tests.support.database import open_pool

PASSING = {
    kind.sqlstate: kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, psycopg.Error)
    and kind.sqlstate
    and passes(kind("it is so"))
}

#: What a session is told whose transaction stood still: set in the transaction itself.
STANDS_STILL = "SET LOCAL idle_in_transaction_session_timeout = '50ms'"
A_WHILE = 0.3


def test_the_states_that_pass_are_known():
    assert len(PASSING) > 30
    assert {"25006", "25P03", "25P04", "26000", "40001", "57P01"} <= PASSING.keys()


@pytest.mark.parametrize("wrapped", [False, True], ids=["driver", "SQLAlchemy"])
@pytest.mark.parametrize("state", sorted(PASSING))
def test_an_error_that_passes_is_a_database_that_is_away(state, wrapped):
    error = PASSING[state]("it is so")
    assert isinstance(error, DATABASE_ERRORS)
    with pytest.raises(Unavailable), translated_faults():
        raise DBAPIError.instance("SELECT 1", {}, error, psycopg.Error) if wrapped else error


@pytest.mark.parametrize("kind", [errors.UniqueViolation, errors.UndefinedTable])
def test_an_error_that_stays_is_not_translated(kind):
    with pytest.raises(kind), translated_faults():
        raise kind("it is so")
    wrapped = DBAPIError.instance("SELECT 1", {}, kind("it is so"), psycopg.Error)
    with pytest.raises(type(wrapped)), translated_faults():
        raise wrapped


async def stand_still_in_a_transaction(pool):
    async with locking_transaction(pool, lock_timeout_seconds=5, pipelined=False) as connection:
        await connection.execute(STANDS_STILL)
        await asyncio.sleep(A_WHILE)


async def stand_still_in_a_session(pool):
    async with Sessions(build_engine(pool), timeout_seconds=5).begin() as session:
        await session.execute(text(STANDS_STILL))
        await asyncio.sleep(A_WHILE)


@pytest.mark.parametrize("stand_still", [stand_still_in_a_transaction, stand_still_in_a_session])
async def test_work_that_stood_still_may_be_repeated(database_url, stand_still):
    async with open_pool(database_url, pool_min=1, pool_max=1) as pool:
        with pytest.raises(DatabaseUnavailable):
            await stand_still(pool)
