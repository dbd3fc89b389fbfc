"""The rows of the table in docs/attack.md: what is tried in each."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from tests.attack.attacker import Attacker

Drive = Callable[[Attacker], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    what: str
    drive: Drive
    #: Settings of the server beside those of all rows.
    settings: Mapping[str, str] = field(default_factory=dict)
    #: The hard limit of open files of a process.
    open_files: int | None = None
    #: Whether /livez on the port of health must answer within a second all the time.
    health: bool = False
