"""Where headrace answers otherwise than the official server, and why."""

from tests.clients.known import Known

LISTED: list[Known] = []
