"""Where the server is, and who its callers are, for processes that know no more of it."""

import json
from dataclasses import asdict, dataclass
from typing import Self

#: Two callers. Both are told in no answer, log line or metric (row 17 looks).
ATTACKER_KEY = "canary-key-of-the-attacker-b7d1"
NEIGHBOUR_KEY = "canary-key-of-the-neighbour-93fe"


@dataclass(frozen=True, slots=True)
class Address:
    """Where an attacker finds the server, in a form that goes to another process."""

    port: int
    health_port: int
    database_url: str
    log_file: str
    attacker_key: str = ATTACKER_KEY
    neighbour_key: str = NEIGHBOUR_KEY

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Self:
        return cls(**json.loads(text))
