"""Masks secrets in texts and fields.

It recognises the password of a URL, a value after a name like ``api_key`` or ``token``, text after
``Bearer``, and keys of well-known providers. The secrets of the server itself it knows by their
text. Text comes from everywhere, so the time of each
pattern is proportional to the text's length.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from structlog.typing import EventDict, WrappedLogger

from headrace.error_text import MAX_BYTES, clipped, clipped_again, error_message, value_text

_MASK = "***"

_WORD = re.compile(r"\S+")
_URL_USER = re.compile(r"(?i)(https?)?://[^:/?#\s@]*:")
_PORT = re.compile(r"\d+(?:/|$)")

_NAMES = (
    "password|passwd|passphrase|pwd|secrets?|token|api[-_ ]?keys?|access[-_ ]?key|private[-_ ]?key"
    "|secret[-_ ]?key|account[-_ ]?key|signature|credentials?|authorization|connection[-_]?string"
)
#: A text in quotes, which may themselves be escaped; or a word.
_VALUE = (
    r"(?:b?'(?:[^'\\]|\\.)*'|b?\"(?:[^\"\\]|\\.)*\"|\\+'[^'\\]*\\+'|\\+\"[^\"\\]*\\+\""
    r"|(?:(?:bearer|basic|digest|token|negotiate)\s+)?[^\s&'\",}]+)"
)
#: The separator after a name: ``=``, ``:``, or the comma of a pair of texts.
_NAMED = re.compile(rf"(?i)({_NAMES})(\\*['\"]?\s*(?:=>|[=:])\s*|['\"]\s*,\s*(?=b?['\"])){_VALUE}")
#: A header has several cookies, up to the end of the line or of the quoted text.
_COOKIE = re.compile(
    r"(?i)(cookie)(\\*['\"]?\s*[=:]\s*(?:\\*b?['\"])?|['\"]\s*,\s*b?['\"])[^\r\n'\"]+"
)
_BEARER = re.compile(r"(?i)\b(bearer)(\s+|%20|\+)[^\s'\",;)}\]\\]+")
_BASIC = re.compile(r"(?i)\b(basic)(\s+|%20|\+)[A-Za-z0-9+/]+={1,2}")
_PARAMETER = re.compile(r"(?i)([?&](?:key|sig|auth|code|session|sid|jwt)=)[^&#\s'\"]+")
_WELL_KNOWN = re.compile(
    r"\b(?:sk-[\w-]{8,}|lsv2_\w{8,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|xox[abeoprs]-[\w-]{8,}|AKIA[0-9A-Z]{12,}|AIza[\w-]{30,}|hf_\w{16,}|hr_[0-9a-f]{12}_\w{8,}"
    r"|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*)"
)
#: ``_NAMED`` is tried only on a text with one of ``_HINTS``, and ``_WELL_KNOWN`` only on a
#: text with one of ``_MAKERS``: most texts have none.
_HINTS = ("pass", "pwd", "secret", "token", "key", "cred", "sign", "auth", "connection")
_MAKERS = (
    *("sk-", "lsv2_", "gh", "github_pat_", "glpat-", "xox", "AKIA", "AIza", "hf_"),
    *("hr_", "eyJ"),
)

#: :func:`mask_text` tries its other patterns only on a text with one of these.
_SIGNS = ("://", "bearer", "basic", "?", "&", "cookie")

_NUMBERS = frozenset({bool, int, float})

_SECRET_FIELD = re.compile(rf"(?i)^.*(?:{_NAMES}|cookie)$")
#: Deeper values are logged as text.
_MAX_DEPTH = 20


class _OwnSecrets:
    """Secrets of this server, which are masked wherever they stand."""

    def __init__(self) -> None:
        self.texts: tuple[str, ...] = ()
        self._lasting: dict[str, None] = {}
        self._rotating: dict[str, None] = {}

    def add(self, texts: Iterable[str], *, rotating: bool) -> None:
        new = dict.fromkeys(text for text in texts if len(text) >= _LEAST)
        if rotating:
            # Passwords rotate; the oldest ones go first.
            kept = [text for text in self._rotating if text not in new]
            self._rotating = dict.fromkeys([*kept, *new][-_MOST_ROTATING:])
        else:
            self._lasting |= new
        # A longer secret may contain a shorter one.
        every = self._lasting | self._rotating
        self.texts = tuple(sorted(every, key=len, reverse=True))


#: Shorter ones are also words.
_LEAST = 8
_MOST_ROTATING = 100
_own = _OwnSecrets()


def mask_always(texts: Iterable[str], *, rotating: bool = False) -> None:
    """From now on, mask these texts wherever they stand: they are secrets of this server.

    :param rotating: others will take their place; only the latest ones are kept.
    """
    _own.add(texts, rotating=rotating)


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """structlog processor that masks secrets in all texts, and fields with names of secrets."""
    return {key: _masked(key, value, 0) for key, value in event.items()}


def is_plain(event: EventDict, max_characters: int) -> bool:
    """Whether a quick look shows that nothing in the event must be masked, and that its texts have
    no more than ``max_characters`` together. For most events it does.
    """
    texts = []
    for key, value in event.items():
        if type(value) is str:
            texts.append(value)
        elif not (value is None or type(value) in _NUMBERS):
            return False
        if _field_names_secret(key):
            return False
    text = "\n".join(texts)
    return len(text) <= max_characters and not _may_hold_secret(text)


def mask_text(text: str) -> str:
    """``text`` with ``***`` in place of secrets."""
    text = mask_known(text)
    if "://" in text:
        text = _WORD.sub(_without_url_password, text)
    lowered = text.lower()
    if "bearer" in lowered:
        text = _BEARER.sub(rf"\1\2{_MASK}", text)
    if "basic" in lowered:
        text = _BASIC.sub(rf"\1\2{_MASK}", text)
    if "?" in text or "&" in text:
        text = _PARAMETER.sub(rf"\1{_MASK}", text)
    if "cookie" in lowered:
        text = _COOKIE.sub(rf"\1\2{_MASK}", text)
    if any(hint in lowered for hint in _HINTS):
        text = _NAMED.sub(rf"\1\2{_MASK}", text)
    if any(maker in text for maker in _MAKERS):
        text = _WELL_KNOWN.sub(_MASK, text)
    return text


def masked_text(text: str, *, max_bytes: int) -> str:
    """``text`` with ``***`` in place of secrets. A long text loses its middle.

    It is masked before it is cut: no pattern finds half a secret.
    """
    bounded = clipped(text, 2 * max(max_bytes, MAX_BYTES))
    return clipped_again(mask_text(bounded), max_bytes)


def masked_message(error: BaseException, *, max_bytes: int) -> str:
    """The message of an error, as :func:`masked_text`."""
    whole = error_message(error, max_bytes=2 * max(max_bytes, MAX_BYTES))
    return masked_text(whole, max_bytes=max_bytes)


def mask_known(text: str) -> str:
    """``text`` with ``***`` in place of this server's secrets; nothing is masked by its form."""
    for secret in _own.texts:
        if secret in text:
            text = text.replace(secret, _MASK)
    return text


def _may_hold_secret(text: str) -> bool:
    """False if each pattern of :func:`mask_text` would leave the text as it is."""
    lowered = text.lower()
    return (
        any(sign in lowered for sign in _SIGNS)
        or any(hint in lowered for hint in _HINTS)
        or any(maker in text for maker in _MAKERS)
        or any(secret in text for secret in _own.texts)
    )


def _without_url_password(word: re.Match[str]) -> str:
    """Mask up to the last @, because people do not encode an @ in a password. In http://host:80/
    the 80 is a port.

    Written by hand: a pattern that searches for the last @ takes quadratic time on a hostile text.
    """
    text = word[0]
    last = text.rfind("@")
    for user in _URL_USER.finditer(text):
        if user.end() <= last and not (user[1] and _PORT.match(text, user.end())):
            return f"{text[: user.end()]}{_MASK}{text[last:]}"
    return text


def _names_secret(key: str) -> bool:
    return _SECRET_FIELD.match(key) is not None


#: For the fields of log lines, whose names are few: the search takes longer than all else here.
_field_names_secret = lru_cache(maxsize=512)(_names_secret)


def _masked(key: str, value: Any, depth: int) -> Any:
    if key.startswith("_") and not depth:
        return value  # structlog's own: the record, its origin
    if value is None:
        return value
    if _names_secret(key) if depth else _field_names_secret(key):
        return _MASK
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return mask_text(value)
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            return {
                mask_text(name): _masked(name, item, depth + 1)
                for name, item in ((value_text(name), item) for name, item in value.items())
            }
        if isinstance(value, list | tuple):
            return [_masked("", item, depth + 1) for item in value]
    return mask_text(value_text(value))
