"""LangGraph's own tests of what a checkpointer must do, all of them."""

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES

from tests.support.database import open_pool
from tests.support.engine import ENGINES, open_saver


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("capability", sorted(one.value for one in ALL_CAPABILITIES))
async def test_it_has_the_capability(capability, engine, database_url):
    async with open_pool(database_url) as pool, open_saver(pool, engine=engine) as saver:

        @checkpointer_test(name=engine)
        async def opened():
            yield saver

        report = await validate(opened, capabilities={capability})
    result = report.results[capability]
    assert result.detected, f"the saver does not override what {capability} needs"
    assert result.failures == []
    assert result.passed
    assert result.tests_passed > 0


def test_these_are_the_capabilities_there_are():
    """A new one is a new promise: keep it, then name it here."""
    assert {one.value for one in ALL_CAPABILITIES} == {
        "copy_thread",
        "delete_for_runs",
        "delete_thread",
        "get_tuple",
        "list",
        "prune",
        "put",
        "put_writes",
    }
