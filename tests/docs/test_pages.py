"""The pages: each is in the index, each link leads somewhere, each module that they name exists."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.sources import ROOT, page

_DOCS = ROOT / "docs"
#: Where text of ours stands; locks, recordings and results are left out.
_FOLDERS = ("docs", "src", "tests", "loadtests", "migrations", "examples", "deploy")
_TEXTS = {".md", ".py", ".sql", ".toml", ".yaml", ".tpl", ".txt"}
#: Pages that nobody who reads the repository has.
_ABSENT = re.compile(r"\(N\d+[,)]|; N\d+\)|[f]ield note|[s]hared API|[d]esign\.md")
#: Files of a reader's own project, as the pages name them.
_READERS_OWN = {"after.py", "auth.py", "before.py", "conftest.py", "env.py", "graph.py", "setup.py"}
_READERS_OWN |= {"file.py", "main.py", "webapp.py"}


def pages() -> list[Path]:
    own = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "loadtests" / "README.md"]
    return (
        own
        + sorted(_DOCS.rglob("*.md"))
        + sorted(
            path for folder in ("deploy", "examples") for path in (ROOT / folder).rglob("*.md")
        )
    )


def text_files() -> list[Path]:
    inside = [path for folder in _FOLDERS for path in (ROOT / folder).rglob("*")]
    return [
        path
        for path in [*inside, *ROOT.glob("*.md"), ROOT / "Makefile"]
        if path.is_file() and (path.suffix in _TEXTS or path.name == "Makefile")
    ]


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(path: Path) -> set[str]:
    """What may stand behind ``#`` in a link to a page, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", without_code(path.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def index_parts() -> dict[str, str]:
    """Heading of a part of the index to its text."""
    parts = re.split(r"^## (.+)$", page("README.md"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def indexed(text: str) -> list[str]:
    return re.findall(r"^- \[[^\]]+\]\(([\w/.-]+)\)", text, flags=re.MULTILINE)


def house_words() -> list[str]:
    return re.findall(r"^\*\*([^*]+)\*\*", page("glossary.md"), flags=re.MULTILINE)


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", without_code(path.read_text())):
        name, _, anchor = target.partition("#")
        leads_to = path.parent / name if name else path
        assert leads_to.exists(), target
        if anchor:
            assert anchor in anchors(leads_to), target


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_that_a_page_names_exists(path: Path) -> None:
    places = (ROOT / "src" / "headrace", ROOT / "src", ROOT, path.parent)
    known = {path.name for path in (ROOT / "src").rglob("*.*") if path.suffix in {".py", ".sql"}}
    for name in re.findall(r"`(?:\./)?([\w/.-]+\.(?:py|sql))`", path.read_text()):
        found = any((place / name).exists() for place in places)
        assert found or name in known | _READERS_OWN, name


def test_the_index_has_four_parts_and_every_page_once() -> None:
    parts = index_parts()
    assert list(parts) == ["Start", "How-to", "Reference", "Internals"]
    listed = [name for text in parts.values() for name in indexed(text)]
    listed += [f"runbooks/{name}" for name in indexed(page("runbooks/README.md"))]
    there = {str(path.relative_to(_DOCS)) for path in _DOCS.rglob("*.md")} - {"README.md"}
    assert sorted(listed) == sorted(there)


def test_only_internals_speak_of_laws_and_goals() -> None:
    internals = set(indexed(index_parts()["Internals"]))
    for path in [ROOT / "README.md", *_DOCS.rglob("*.md")]:
        if (
            str(path.relative_to(ROOT / "docs" if path.is_relative_to(_DOCS) else ROOT))
            in internals
        ):
            continue
        assert not re.search(r"\blaws?\b|\bgoals?\b|two cores", path.read_text()), path


def test_every_house_word_is_used_and_stands_once() -> None:
    words = house_words()
    assert words == sorted(set(words), key=str.lower)
    assert len(words) >= 20
    places = [path for folder in ("src", "docs") for path in (ROOT / folder).rglob("*.*")]
    texts = [
        path.read_text()
        for path in places
        if path.suffix in {".py", ".sql", ".md"} and path.name != "glossary.md"
    ]
    used = "\n".join(texts).lower()
    assert [word for word in words if word.lower() not in used] == []


def test_every_house_word_links_to_a_page_or_names_a_module() -> None:
    entries = re.split(r"^\*\*[^*]+\*\*", page("glossary.md"), flags=re.MULTILINE)[1:]
    for word, entry in zip(house_words(), entries, strict=True):
        assert re.search(r"\]\([\w/.#-]+\)|`[\w/]+\.(?:py|sql)`", entry), word


def test_decisions_are_numbered_and_headed_in_one_form() -> None:
    paths = sorted((_DOCS / "adr").glob("*.md"))
    headings = {path.name: path.read_text().partition("\n")[0] for path in paths}
    for name, heading in headings.items():
        assert re.fullmatch(rf"# {name[:4]}: \S.*[^.]", heading), name
    numbers = [int(name[:4]) for name in headings]
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_nothing_refers_to_pages_that_are_not_here() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in text_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if _ABSENT.search(line)
    ]
    assert found == []


def test_the_rooms_stand_in_the_order_of_the_layers() -> None:
    """Every room and top module of the package, as pyproject.toml layers them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contract = project["tool"]["importlinter"]["contracts"][0]
    height = {
        name: number
        for number, layer in enumerate(contract["layers"])
        for name in layer.split(" | ")
    }
    table = page("architecture.md").split("\n## Rooms\n")[1]
    named = [
        name
        for cell in re.findall(r"^\| (`[^|]+`) \|", table, flags=re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    ]
    assert sorted(named) == sorted(height)
    assert [height[name] for name in named] == sorted(height.values())
