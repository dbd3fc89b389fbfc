"""Who makes a request. Every repository call takes one; there is no unscoped access."""

from dataclasses import dataclass, field

#: Tenant of everything made while no identity provider says otherwise.
DEFAULT_TENANT = "default"

#: Tenant of what the server itself owns, such as each graph's first assistant; all may read it.
SYSTEM_TENANT = "system"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller: ``identity`` owns what it creates, ``tenant`` bounds what it can see."""

    identity: str
    tenant: str = DEFAULT_TENANT
    #: With whom it shares places: which key it has sent. Empty where there are no keys.
    caller: str = field(default="", compare=False)


#: The caller while authentication is off.
ANONYMOUS = Principal(identity="anonymous")

#: headrace itself, at start-up.
SYSTEM = Principal(identity="system", tenant=SYSTEM_TENANT)
