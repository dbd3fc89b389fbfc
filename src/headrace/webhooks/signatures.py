"""The headers of a call that let its receiver check it, as the specification of Standard Webhooks
has them (version 1.0.0).
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence


def signature_headers(
    secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """Id, time and signatures of a call; without secrets, no signature.

    :param message_id: stays the same when a call is repeated.
    :param timestamp: seconds since 1970, of this call.
    """
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if secrets:
        signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
        headers["webhook-signature"] = " ".join(f"v1,{_signature(one, signed)}" for one in secrets)
    return headers


def _signature(secret: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
