"""What an attacker counts: what it tried, what was refused, and what was let through."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Self


@dataclass(slots=True)
class Tally:
    """Of one row."""

    tried: int = 0
    #: A 4xx or 503, or a connection that was closed.
    refused: int = 0
    #: What should not have happened, in sentences, with how often.
    let_through: Counter[str] = field(default_factory=Counter)
    #: What else is worth a look.
    notes: list[str] = field(default_factory=list)

    @property
    def absorbed(self) -> int:
        """What was answered, or went on, without harm."""
        return self.tried - self.refused - sum(self.let_through.values())

    def judge(self, good: object, sentence: str) -> None:
        """A check of the row's own."""
        if not good:
            self.let_through[sentence] += 1

    def dump(self) -> str:
        # dataclasses.asdict spoils a Counter.
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def load(cls, text: str) -> Self:
        found = json.loads(text)
        return cls(**{**found, "let_through": Counter(found["let_through"])})
