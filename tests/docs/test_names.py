"""Settings, metrics and log events that a page names are there, with the defaults that it gives."""

import re
from pathlib import Path

import pytest

from headrace.cli.settings_table import configuration_page
from tests.support.sources import ROOT, page

#: Read by tests and by the shell, not by the server; and the placeholder of an image's name.
_NO_SETTINGS = {
    "HEADRACE_API_KEY",
    "HEADRACE_IMAGE",
    "HEADRACE_REQUIRE_TOOLS",
    "HEADRACE_TEST_DATABASE_URL",
    "HEADRACE_TEST_OFFICIAL",
}
_UNITS = {"": 1, "s": 1, "h": 3600, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_ROW = re.compile(r"^\| [^|]* \| `(HEADRACE_\w+)` \| ([\d.,]+)( [A-Za-z]+)?\b[^|]*\|", re.MULTILINE)


def pages() -> list[Path]:
    return [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "loadtests" / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]


def defaults() -> dict[str, str]:
    """Every setting and its default, as docs/configuration.md gives it."""
    return dict(
        re.findall(r"^\| `(HEADRACE_\w+)` \| [^|]+ \| `?([^|`]*)`? \|", configuration_page(), re.M)
    )


def names_in_metrics_page() -> set[str]:
    return set(re.findall(r"`(\w+)`", page("metrics.md")))


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_that_a_page_names_exists(path: Path) -> None:
    named = set(re.findall(r"\bHEADRACE_[A-Z][A-Z_]*[A-Z]\b(?!_*\*)", path.read_text()))
    assert named - set(defaults()) - _NO_SETTINGS == set()


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_metric_that_a_page_names_exists(path: Path) -> None:
    named = set(re.findall(r"`(headrace_[a-z_]+)(?:\{\w+\})?`", path.read_text()))
    of_no_metric = {"headrace_alembic_version", "headrace_database", "headrace_prepare"}
    assert named - names_in_metrics_page() - of_no_metric == set()


def test_the_limits_have_the_defaults_of_the_settings() -> None:
    rows = _ROW.findall(page("limits.md"))
    assert len(rows) > 40
    told = {name: float(number.replace(",", "")) for name, number, _ in rows}
    units = {name: _UNITS[unit.strip()] for name, _, unit in rows if unit.strip() in _UNITS}
    wrong = {
        name: (told[name] * units[name], defaults()[name])
        for name in units
        if told[name] * units[name] != float(defaults()[name] or "nan")
    }
    assert wrong == {}
