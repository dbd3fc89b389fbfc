"""When a certificate expires, read from its file without a library for X.509.

RFC 5280, section 4.1: a Certificate is a SEQUENCE that begins with the SEQUENCE TBSCertificate.
This holds an optional version with the tag [0], the serial number, the signature's algorithm, the
issuer and the validity: a SEQUENCE of the two times notBefore and notAfter. X.690, section 8,
defines how tags and lengths are encoded.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_PEM = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----(.*?)-----END", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18

#: RFC 5280, section 4.1.2.5: the certificate does not expire.
_NEVER = b"99991231235959Z"


def expires_at(path: Path) -> float | None:
    """The earliest end of the file's certificates, in seconds since the epoch; None: no end.

    :raises OSError: the file cannot be read.
    :raises ValueError: it holds no certificate.
    """
    content = path.read_bytes()
    try:
        found = [b64decode(body) for body in _PEM.findall(content)] or [content]
        times = [_not_after(one) for one in found]
    except (IndexError, binascii.Error) as error:
        raise ValueError(f"{path.name} holds no certificate that can be read") from error
    return min((one for one in times if one is not None), default=None)


def _not_after(certificate: bytes) -> float | None:
    body = _inside(certificate, _SEQUENCE)
    fields = _elements(_inside(body, _SEQUENCE))
    tag, _ = next(fields, (0, b""))
    # With a version, the serial number comes next. Behind it are algorithm and issuer.
    for _ in range(4 if tag == _VERSION else 3):
        tag, value = next(fields, (0, b""))
    if tag != _SEQUENCE:
        raise ValueError("no validity where RFC 5280 has it")
    times = list(_elements(value))
    if len(times) != 2:
        raise ValueError("a validity has two times")
    return _seconds(*times[1])


def _inside(encoded: bytes, wanted: int) -> bytes:
    """The content of the first element.

    :raises ValueError: it has another tag.
    """
    tag, value = next(_elements(encoded), (0, b""))
    if tag != wanted:
        raise ValueError(f"tag {tag:#x} where {wanted:#x} is expected")
    return value


def _elements(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements that follow each other, with their tags."""
    at = 0
    while at < len(encoded):
        tag, length = encoded[at], encoded[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(encoded[at : at + count], "big")
            at += count
        yield tag, encoded[at : at + length]
        at += length


def _seconds(tag: int, value: bytes) -> float | None:
    if value == _NEVER:
        return None
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        # Two digits of the year: from 50 on, it is of the last century.
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"tag {tag:#x} is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
