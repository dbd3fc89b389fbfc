"""Large values are decoded beside the event loop."""

import gc
import time

import pytest
from langchain_core.messages import HumanMessage

from tests.support.chains import config_of, put
from tests.support.database import open_pool
from tests.support.engine import open_saver
from tests.support.stalls import longest_stall

# It has a bound on time.
pytestmark = pytest.mark.alone

MESSAGES = 40_000


@pytest.fixture
def only_new_objects():
    """The garbage collector stops all threads, and looks through what all tests have left. A server
    leaves out what is there at its start.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("only_new_objects")
async def test_other_work_goes_on_while_a_large_state_is_decoded(database_url):
    async with open_pool(database_url) as pool, open_saver(pool) as saver:
        await put(saver, "t", 1, [HumanMessage("hi", id=str(one)) for one in range(MESSAGES)])
        stored = saver.serde.dumps_typed(
            [HumanMessage("hi", id=str(one)) for one in range(MESSAGES)]
        )
        began = time.perf_counter()
        saver.serde.loads_typed(stored)
        seconds = time.perf_counter() - began
        async with longest_stall() as stall:
            found = await saver.aget_tuple(config_of("t"))
    assert found is not None
    (value,) = found.checkpoint["channel_values"].values()
    assert len(value) == MESSAGES
    print(f"decoding takes {seconds:.3f} s, the longest stall was {stall[0]:.3f} s")
    assert stall[0] < seconds / 2
