"""The Prometheus text format, read as a scraper reads it."""

import re
from dataclasses import dataclass, field

_SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
#: Parts of a histogram, and the label that only they have.
_PARTS = re.compile(r"_(bucket|sum|count)$")


@dataclass
class Family:
    """One metric: its type, and its samples by labels."""

    kind: str
    labels: set[str] = field(default_factory=set)


class Exposition:
    """What one scrape says."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples: list[tuple[str, dict[str, str], float]] = []
        self.families: dict[str, Family] = {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.families[name] = Family(kind)
            elif sample := _SAMPLE.match(line):
                labels = dict(_LABEL.findall(sample["labels"] or ""))
                self.samples.append((sample["name"], labels, float(sample["value"])))
                self._family_of(sample["name"]).labels |= set(labels) - {"le"}

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of ``name`` that carry ``labels``; KeyError when there is none."""
        found = [
            value
            for sample, present, value in self.samples
            if sample == name and labels.items() <= present.items()
        ]
        if not found:
            raise KeyError(name)
        return sum(found)

    def count(self, name: str, **labels: str) -> float:
        """The same, 0 when there is none: counters begin with their first count."""
        try:
            return self.value(name, **labels)
        except KeyError:
            return 0.0

    def label_values(self, name: str, label: str) -> set[str]:
        return {labels[label] for sample, labels, _ in self.samples if sample == name}

    def _family_of(self, name: str) -> Family:
        return self.families.get(name) or self.families[_PARTS.sub("", name)]
