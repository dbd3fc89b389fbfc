"""docs/configuration.md is what the code prints."""

import os
import subprocess
import sys

from headrace.cli.settings_table import configuration_page, with_table
from tests.support.sources import ROOT, page


def headrace_settings(*options: str, **environment: str) -> str:
    command = [sys.executable, "-m", "headrace", "settings", *options]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stdout


def test_the_page_is_what_the_code_generates() -> None:
    assert page("configuration.md") == configuration_page(), "run: make docs"


def test_the_readmes_table_is_what_the_code_generates() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "`HEADRACE_PORT`" in readme
    assert with_table(readme) == readme, "run: make docs"


def test_the_command_prints_the_page() -> None:
    assert headrace_settings("--markdown") == configuration_page()


def test_present_values_come_without_passwords() -> None:
    printed = headrace_settings(
        DATABASE_URL="postgresql://ada:geheim@db/app", HEADRACE_DATABASE__POOL_MAX="17"
    )
    assert "HEADRACE_DATABASE__POOL_MAX=17\n" in printed
    assert "HEADRACE_DATABASE__POOL_MIN=2\n" in printed
    assert "HEADRACE_DATABASE__URL=*" in printed
    assert "geheim" not in printed
