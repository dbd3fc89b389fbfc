"""The app is started once for each module."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.door import Door, open_door


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    folder: Path = tmp_path_factory.mktemp("door")
    async with open_door(module_database, folder) as opened:
        yield opened
