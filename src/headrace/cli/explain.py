"""``headrace explain``: the text of a refusal, from the page that is installed with headrace."""

import re
from pathlib import Path
from typing import Annotated

import typer

from headrace.errors import DOCUMENTATION

Code = Annotated[str | None, typer.Argument(help="Like HR102; none lists all of them.")]

_HEADING = re.compile(r"^## (HR\d{3})$", re.MULTILINE)


def explain(code: Code = None) -> None:
    """Print what a refusal like HR102 means, and what cures it."""
    found = entries()
    if code is None:
        for name, entry in found.items():
            typer.echo(f"{name}  {_first_sentence(entry)}")
        return
    text = found.get(code.strip().upper())
    if text is None:
        raise typer.BadParameter(f"there is no {code}; `headrace explain` lists the codes")
    typer.echo(f"{code.strip().upper()}\n\n{_plain(text)}")


def entries() -> dict[str, str]:
    """The Markdown of each entry, by code."""
    parts = _HEADING.split(_page().read_text(encoding="utf-8"))[1:]
    return {code: text.strip() for code, text in zip(parts[::2], parts[1::2], strict=True)}


def _page() -> Path:
    """The page: in the wheel beside the package's code, in a checkout in ``docs``."""
    package = Path(__file__).parents[1]
    packaged = package / "_docs" / "errors.md"
    return packaged if packaged.is_file() else package.parents[1] / "docs" / "errors.md"


def _first_sentence(text: str) -> str:
    plain = " ".join(_plain(text).removeprefix("Cause. ").split())
    return plain.partition(". ")[0].rstrip(".") + "."


def _plain(text: str) -> str:
    """The text without Markdown; a link to another page becomes its address."""
    text = re.sub(r"\[[^\]]+\]\(([^):]+)\)", rf"{DOCUMENTATION}/\1", text)
    return text.replace("**", "").replace("`", "'")
