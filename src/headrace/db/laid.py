"""The names that a revision takes in the database, so that a migration knows them before it begins.

Each revision file says in its ``laid`` what it makes; a test compares that with what it does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Columns by name, with the type as ``format_type`` tells it.
Columns = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Laid:
    """What a revision makes under names that were free before it.

    :ivar tables: each with the columns by which it is known as ours, or LangGraph's, however far an
        earlier upgrade or upstream's ``setup()`` got.
    :ivar indexes: each with its table; those of primary keys too, which have names like all others.
    :ivar functions: without arguments, each with a word that its source has.
    :ivar repeatable: the revision goes on where an earlier attempt has left some of this, or
        LangGraph's ``setup()`` at any of its versions.
    """

    tables: Mapping[str, Columns] = field(default_factory=dict)
    indexes: Mapping[str, str] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
