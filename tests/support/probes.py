"""Probes that find what a test says, for tests of what follows from it."""

from headrace.health.checks import DatabaseCheck, SchemaProbe


class ToldDatabase(DatabaseCheck):
    """Answers until the test says that it is gone."""

    def __init__(self) -> None:
        self.gone = False
        self.asked = 0

    async def ask(self) -> None:
        self.asked += 1
        if self.gone:
            raise OSError("gone")


class ToldSchema(SchemaProbe):
    """Reads nothing: the test says what the problem is."""

    def __init__(self) -> None:
        self.told: str | None = None

    @property
    def problem(self) -> str | None:
        return self.told

    @property
    def revision(self) -> str | None:
        return "0004"
