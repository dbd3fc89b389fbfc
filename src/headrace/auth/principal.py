"""The caller of a request. Every call of a repository takes one, so that it sees one tenant."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

#: The length of the names of tenants and owners.
_MOST_CHARACTERS = 128

#: The tenant of callers for whom no key and no token names another one.
DEFAULT_TENANT = "default"

#: The tenant of rows that the server owns, such as system assistants. All tenants can read them.
SYSTEM_TENANT = "system"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller: ``identity`` owns the rows it creates, ``tenant`` bounds the rows it can see.

    Within its tenant it sees its own rows, or those of all owners; and of these only the ones whose
    metadata contains ``filter``, and has the values of its keys ``equal`` as a whole.
    """

    identity: str
    tenant: str = DEFAULT_TENANT
    #: Whether it sees the rows of all owners of its tenant.
    whole_tenant: bool = True
    #: What the metadata of each row that it sees must contain, by Postgres's ``@>``.
    filter: Mapping[str, Any] = field(default_factory=dict, hash=False)
    #: The keys of ``filter`` with a list or an object that is the whole value: ``@>`` would find
    #: larger ones too.
    equal: frozenset[str] = frozenset()
    permissions: tuple[str, ...] = field(default=(), compare=False)
    #: What graphs see as ``langgraph_auth_user``; None: nothing but its identity.
    user: Mapping[str, Any] | None = field(default=None, compare=False)
    #: Whether each operation that changes something is refused.
    read_only: bool = False
    #: Its name for shares: of its API key or tenant; empty without keys.
    caller: str = field(default="", compare=False)

    @property
    def owner(self) -> str | None:
        """The owner of the rows that it sees; None: any owner of its tenant."""
        return None if self.whole_tenant else self.identity

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody has told who it is."""
        return self.user is None and self.identity == ANONYMOUS.identity

    @property
    def takes_strays(self) -> bool:
        """Whether a thread that it makes may have checkpoints already, which no thread has.

        Nobody knows whose they are. So a caller takes them only where callers are not told apart.
        """
        return self.is_anonymous and self.tenant == DEFAULT_TENANT and not self.restricted

    @property
    def restricted(self) -> bool:
        """Whether there may be rows of its tenant that it does not see."""
        return not self.whole_tenant or bool(self.filter)

    @property
    def unfiltered(self) -> "Principal":
        """The caller without a filter: a filter is for one resource and one action."""
        return replace(self, filter={}, equal=frozenset()) if self.filter else self


#: The caller while authentication is off.
ANONYMOUS = Principal(identity="anonymous")

#: headrace itself, at start-up.
SYSTEM = Principal(identity="system", tenant=SYSTEM_TENANT)


def of_tenant(tenant: str) -> Principal:
    """headrace itself, for a run of this tenant that it has found for one of its callers."""
    return Principal(identity=SYSTEM.identity, tenant=tenant)


def is_name(text: str) -> bool:
    """Whether a key or a token may name its tenant or its owner so. The names of headrace's own
    callers would give it their rows.
    """
    reserved = (ANONYMOUS.identity, SYSTEM.identity, SYSTEM_TENANT)
    return (
        0 < len(text) <= _MOST_CHARACTERS
        and text.isprintable()
        and text == text.strip()
        and text not in reserved
    )


def caller_of(tenant: str, name: str) -> str:
    """The name for shares: callers of one tenant share as one.

    :param name: of the caller in the default tenant, where each is one.
    """
    return name if tenant == DEFAULT_TENANT else f"tenant:{tenant}"
