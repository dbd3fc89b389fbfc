"""What a handler changes in the payload of a cron."""

import pytest
from langgraph_sdk import Auth

from headrace.auth.handler_errors import HandlerFailed
from headrace.auth.handlers import Handlers
from headrace.auth.principal import Principal
from headrace.crons.endpoints import _to_create
from headrace.crons.schemas import CronCreate
from headrace.edge.access import Access

BODY = CronCreate(
    assistant_id="agent",
    schedule="0 0 1 1 *",
    input={"messages": []},
    config={"configurable": {"model": "dear"}},
    metadata={"tag": "mine"},
)


async def left_by(change):
    auth = Auth()

    @auth.on.crons.create
    async def handler(ctx, value):
        change(value)
        return {"owner": "ada"}

    access = Access(Principal("ada"), Handlers(auth), {})
    return (await _to_create(access, None, BODY))[1]


async def test_it_is_stored():
    def change(value):
        value["payload"]["config"]["configurable"]["model"] = "cheap"
        value["payload"]["metadata"]["team"] = "blue"

    left = await left_by(change)
    assert left.config == {"configurable": {"model": "cheap"}}
    assert left.metadata == {"tag": "mine", "team": "blue", "owner": "ada"}
    assert (left.schedule, left.input) == (BODY.schedule, BODY.input)
    assert BODY.config == {"configurable": {"model": "dear"}}
    assert left.payload()["config"] == left.config


async def test_nothing_is_changed_where_the_handler_changes_nothing():
    left = await left_by(lambda value: None)
    assert left.payload() == {**BODY.payload(), "metadata": {"tag": "mine", "owner": "ada"}}


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(payload={"input": None}),
        lambda value: value["payload"].update(config=1),
    ],
)
async def test_what_cannot_be_honoured_is_refused(change):
    with pytest.raises(HandlerFailed):
        await left_by(change)
