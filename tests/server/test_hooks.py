"""The master and the processes that it starts."""

from pathlib import Path

import pytest

from tests.support.processes import ServerUnderTest


class SlowFork(ServerUnderTest):
    program = "tests.support.slow_fork_gunicorn"


@pytest.mark.parametrize("later", [1, 2])
def test_a_refusal_that_the_master_learns_of_while_it_forks_is_the_end(
    tmp_path: Path, later: int
) -> None:
    """The process that it forks refuses, or the one before."""
    refuse = tmp_path / "refuse"
    refuse.touch()
    running = SlowFork(tmp_path, APP_REFUSE=str(refuse), APP_LATER=str(later))
    running.start()
    try:
        assert running.wait_exit(60) == 3
        assert running.log().count("HR999 the test: asked to refuse. Ask less.") == 1
        assert "Traceback" not in running.log()
    finally:
        running.close()
