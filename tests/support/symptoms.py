"""The queries of docs/symptoms.md."""

import re
from dataclasses import dataclass

from tests.support.sources import page

_BLOCK = re.compile(r"^```(promql|sql|jq)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Query:
    symptom: str
    language: str
    text: str


def symptoms() -> dict[str, str]:
    """Each section of the page: its heading and its text."""
    parts = re.split(r"^## (.+)$", page("symptoms.md"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def queries(language: str) -> list[Query]:
    """All queries in ``promql``, ``sql`` or ``jq``."""
    return [
        Query(symptom, language, text)
        for symptom, section in symptoms().items()
        for found, text in _BLOCK.findall(section)
        if found == language
    ]
