"""Fixtures for the chart: both majors of helm."""

from pathlib import Path

import pytest

from tests.deploy.tools import helm


@pytest.fixture
def helm4() -> Path:
    return helm(4)


@pytest.fixture(params=[3, 4], ids=["helm3", "helm4"])
def each_helm(request: pytest.FixtureRequest) -> Path:
    return helm(request.param)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of a fresh clone downloads its tools."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(900))
