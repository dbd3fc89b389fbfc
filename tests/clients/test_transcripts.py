"""Every recorded exchange in scope, sent again: the same answer, or a listed reason."""

from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.clients.known import KNOWN
from tests.clients.replay import Difference, Exchange, Replay, chapters
from tests.clients.staging import STAGES, Stage, shortened, without_others
from tests.support.live import live_server
from tests.support.sources import ROOT

pytestmark = pytest.mark.acceptance

CONFIG = Path(__file__).with_name("langgraph.json")


async def played(replay: Replay, chapter: str, place: int, one: Exchange) -> list[Difference]:
    stage = STAGES.get((chapter, place), Stage())

    async def during(events: int) -> None:
        if events == stage.after_events:
            for step in stage.during:
                await step(replay)

    for step in stage.before:
        await step(replay)
    asked = without_others(chapter, place, shortened(one, stage.secs))
    return await replay.send(asked, during if stage.during else None)


@pytest.mark.timeout(240)
async def test_each_answer_is_the_recorded_one_or_differs_as_listed(module_database, tmp_path):
    unlisted: list[str] = []
    used: Counter[int] = Counter()
    with live_server(tmp_path, module_database, config=CONFIG) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            replay = Replay(client)
            for chapter, exchanges in chapters().items():
                for place, one in enumerate(exchanges):
                    exchange = f"{chapter}: {one['title']}"
                    for difference in await played(replay, chapter, place, one):
                        known = [
                            number
                            for number, entry in enumerate(KNOWN)
                            if entry.covers(exchange, difference)
                        ]
                        used.update(known)
                        if not known:
                            unlisted.append(f"{exchange}\n    {difference}")
    assert "\n".join(unlisted) == ""
    assert [entry for number, entry in enumerate(KNOWN) if not used[number]] == []


@pytest.mark.parametrize("entry", KNOWN, ids=lambda entry: entry.says[:40])
def test_each_reason_stands_in_the_documentation(entry):
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "docs" / "compatibility.md").read_text().splitlines()
        if line.startswith("|") and entry.says in line
    ]
    assert [row[1] for row in rows] == [entry.kind]
