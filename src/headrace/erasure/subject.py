"""Whose rows are erased: those of one owner, or of a whole tenant."""

from dataclasses import dataclass
from typing import Any

from headrace.graphs.user_label import MEMORIES

#: Stands in a pattern for the label of the user, and for any one label.
USER, ANY = "{user}", "*"


@dataclass(frozen=True, slots=True)
class Subject:
    """
    :ivar owner: None: all owners of the tenant.
    :ivar namespaces: patterns of the namespaces that are a user's among those that a tenant
        shares, label by label. A name alone tells nothing: a user may be called as any label is.
        The built-in chat writes the first pattern.
    """

    tenant: str
    owner: str | None = None
    namespaces: tuple[tuple[str, ...], ...] = ((MEMORIES, USER),)

    @property
    def values(self) -> dict[str, Any]:
        """The parameters of all conditions."""
        return {"tenant": self.tenant, "owner": self.owner}
