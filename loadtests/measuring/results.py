"""Where results go: JSON with the machine's facts, and sections of a documentation page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.measuring import machine

RESULTS = Path(__file__).parents[1] / "results"


def write_result(name: str, result: Mapping[str, Any], *, folder: Path = RESULTS) -> Path:
    """Write ``NAME.json``; the machine's facts come first unless the result has its own.

    :raises ValueError: they do not tell how fast the machine's processor was.
    """
    told = result if "machine" in result else {"machine": machine.facts(), **result}
    if not told["machine"].get("loop_milliseconds"):
        raise ValueError(f"{name}: the result has no loop_milliseconds of its machine")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(told, indent=2) + "\n")
    return path


def write_section(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->`` of a page.

    :raises ValueError: the page has no such markers.
    """
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    text = page.read_text()
    if start not in text or end not in text:
        raise ValueError(f"{page.name} has no markers for {name}")
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    page.write_text(before + start + "\n".join(lines).strip() + "\n" + end + after)
