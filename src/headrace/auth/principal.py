"""The caller of a request. Every call of a repository takes one, so that it sees one tenant."""

from dataclasses import dataclass, field

#: The tenant of all rows while there is no identity provider.
DEFAULT_TENANT = "default"

#: The tenant of rows that the server owns, such as system assistants. All tenants can read them.
SYSTEM_TENANT = "system"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller: ``identity`` owns the rows it creates, ``tenant`` bounds the rows it can see."""

    identity: str
    tenant: str = DEFAULT_TENANT
    #: The name of its API key, for shares; empty without keys.
    caller: str = field(default="", compare=False)


#: The caller while authentication is off.
ANONYMOUS = Principal(identity="anonymous")

#: headrace itself, at start-up.
SYSTEM = Principal(identity="system", tenant=SYSTEM_TENANT)
