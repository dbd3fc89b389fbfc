"""README.md as the package's page shows it: no link that leads nowhere there."""

import re
import tomllib

from headrace.errors import DOCUMENTATION
from tests.support.sources import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def long_description() -> str:
    """What the build makes of README.md."""
    hook = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = "".join((ROOT / one["path"]).read_text(encoding="utf-8") for one in hook["fragments"])
    for one in hook["substitutions"]:
        text = re.sub(one["pattern"], one["replacement"], text)
    return text


def test_every_link_of_the_packages_page_is_absolute_and_leads_to_a_file() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", long_description())
    ours = [
        target
        for target in targets
        if target.startswith(DOCUMENTATION.removesuffix("blob/main/docs"))
    ]
    assert len(ours) >= 12
    for target in targets:
        assert target.startswith(("https://", "#")), target
    for target in ours:
        path = ROOT / re.split(r"/(?:blob|tree)/main/", target)[1]
        assert path.is_dir() if "/tree/" in target else path.is_file(), target


def test_pages_named_in_messages_are_where_the_project_says() -> None:
    assert PROJECT["project"]["urls"]["Documentation"] == DOCUMENTATION.replace("/blob/", "/tree/")


def test_the_build_makes_the_page_so() -> None:
    assert PROJECT["project"]["dynamic"] == ["readme"]
    assert any(
        one.startswith("hatch-fancy-pypi-readme") for one in PROJECT["build-system"]["requires"]
    )
