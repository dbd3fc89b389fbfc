"""The namespace of a user's memories, as the built-in chat writes it and an erasure finds it."""

from uuid import NAMESPACE_OID, uuid5

#: The first label. The second one is the user's.
MEMORIES = "memories"


def user_label(user_id: object) -> str:
    """The user id as a label of a namespace, which may not contain a dot."""
    text = str(user_id)
    return uuid5(NAMESPACE_OID, text).hex if "." in text else text
