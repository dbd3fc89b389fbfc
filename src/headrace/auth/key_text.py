"""The text of an API key in the database: ``hr_<prefix>_<secret>``.

The prefix names the key in lists and logs; it is no secret. The database has a digest of the whole
text. The secret has 192 random bits, so a fast digest is enough: nobody can try all of them.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass

#: How all keys of the database begin. No JWT does.
BEGINNING = "hr_"

_PREFIX_BYTES = 6
_SECRET_BYTES = 24
_FORM = re.compile(rf"{BEGINNING}([0-9a-f]{{{2 * _PREFIX_BYTES}}})_[0-9a-f]{{{2 * _SECRET_BYTES}}}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made just now. Only its owner keeps ``text``."""

    text: str
    prefix: str
    digest: bytes


def new_key() -> NewKey:
    prefix = secrets.token_hex(_PREFIX_BYTES)
    text = f"{BEGINNING}{prefix}_{secrets.token_hex(_SECRET_BYTES)}"
    return NewKey(text, prefix, digest_of(text))


def prefix_of(text: str) -> str | None:
    """The prefix of a key; None if the text has not the form of one."""
    found = _FORM.fullmatch(text)
    return found[1] if found is not None else None


def digest_of(text: str) -> bytes:
    """The SHA-256 of a key."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
