"""Settings, metrics and log events that a page names are there, with the defaults that it gives."""

import re
import tomllib
from pathlib import Path

import pytest

from headrace.cli.settings_table import configuration_page
from headrace.graphs import manifest_keys
from headrace.graphs.http_entry import ROOMS
from tests.support.sources import ROOT, page

#: Read by tests and by the shell, not by the server; the placeholder of an image's name; a short
#: form.
_NO_SETTINGS = {
    "HEADRACE_API_KEY",
    "HEADRACE_AUTH",  # short for HEADRACE_AUTH__MODE
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
    if path.name == "configuration.md":
        pytest.skip("written from the code; it also tells earlier names")
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


def test_the_page_of_versions_has_the_floors_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    floors = dict(
        re.findall(r"^([\w-]+)[^>]*>=([\d.]+)", "\n".join(project["dependencies"]), re.MULTILINE)
    )
    told: dict[str, str] = {}
    for names, versions in re.findall(
        r"^\| ([\w, -]+) \| ([\d., ]+) \|", page("versions.md"), re.M
    ):
        told |= dict(zip(names.split(", "), versions.split(", "), strict=True))
    assert told == floors


def test_the_page_of_the_manifest_names_every_key() -> None:
    text = page("langgraph-json.md")
    keys = {*manifest_keys._FOR_BUILDS, *manifest_keys._NOT_YET, *manifest_keys._HONOURED}
    keys |= {*manifest_keys.REFUSED, *manifest_keys._KEYS_OF_HTTP}
    keys |= {f"checkpointer.{key}" for key in manifest_keys._KEYS_OF_CHECKPOINTER}
    keys |= {f"store.{key}" for key in manifest_keys._KEYS_OF_STORE}
    keys |= {f"disable_{room}" for room in ROOMS}
    keys -= {"checkpointer", "store"}
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []
