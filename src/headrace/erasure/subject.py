"""Whose rows are erased: those of one owner, or of a whole tenant."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Subject:
    """
    :ivar owner: None: all owners of the tenant.
    """

    tenant: str
    owner: str | None = None

    @property
    def values(self) -> dict[str, Any]:
        """The parameters of all conditions."""
        return {"tenant": self.tenant, "owner": self.owner}
