"""The secrets of the server itself: those of settings and of the environment.

They are masked in log lines, and here in what a process prints when it does not start: refusals and
tracebacks.
"""

import json
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

from headrace.db.conninfo import passwords_in
from headrace.errors import StartupRefusal
from headrace.observability.masking import mask_always, mask_known, mask_text
from headrace.setting_groups import Group
from headrace.settings import (
    DATABASE_URL_VARIABLES,
    MIGRATION_URL_VARIABLES,
    Settings,
    environment,
)

#: Variables that always hold a secret, or the path of one.
_SECRET = re.compile(r"(?i)(secret|passw(or)?d|passphrase|pwd)$")
#: Variables that hold a key of a model's provider, or another secret; but perhaps a word or number.
_KEY = re.compile(r"(?i)(key|token|credentials?)$")
_WORD = re.compile(r"[a-z]{1,15}|\d{1,11}")
#: What all may know, unless somebody has put the private key there.
_PUBLIC = re.compile(r"(?i)public_?key$")
#: A key in base64 may begin with a slash too. It has capitals.
_PATH = re.compile(r"/[a-z0-9._/-]*")
#: OpenTelemetry sends these headers with each span: keys of its receiver.
_HEADERS = re.compile(r"OTEL_EXPORTER_OTLP_([A-Z]+_)?HEADERS")


def mask_own(settings: Settings | None = None) -> None:
    """From now on, no text that is masked shows a secret of this server.

    :param settings: None: they cannot be read, or not yet. Then their variables are looked at.
    """
    mask_always(_of_environment(environment()))
    if settings is not None:
        mask_always(part for text in _of_settings(settings) for part in _parts(text))


def masked_refusal(refusal: StartupRefusal) -> StartupRefusal:
    """The refusal without secrets. Its remedy is a sentence of headrace, and may show the form of
    a URL.
    """
    return refusal.worded(
        where=mask_text(refusal.where),
        what=mask_text(refusal.what),
        remedy=mask_known(refusal.remedy),
    )


@contextmanager
def masked_refusals() -> Iterator[None]:
    """For an app of the user, whose server prints what its start raises: a refusal that leaves the
    block, and its causes, show no secret.

    :raises StartupRefusal: as the block does.
    """
    try:
        yield
    except StartupRefusal as refusal:
        told = "".join(traceback.format_exception(refusal))
        mask_own()
        if mask_text(told) == told:
            raise
        raise masked_refusal(refusal) from None


def mask_tracebacks() -> None:
    """Let errors that nobody catches be printed without secrets, by all threads of the process."""
    sys.excepthook = lambda kind, error, trace: _print(error)
    threading.excepthook = _print_of_thread


def _print_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
        _print(ended.exc_value)


def _print(error: BaseException) -> None:
    if sys.stderr is not None:
        mask_own()
        sys.stderr.write(mask_text("".join(traceback.format_exception(error))))
        sys.stderr.flush()


def _of_environment(variables: Mapping[str, str]) -> Iterator[str]:
    """Also if the settings themselves cannot be read: then their variables are in a refusal."""
    known, groups = _secret_variables()
    for name, value in variables.items():
        upper = name.upper()
        if upper in known:
            yield from _parts(value)
        elif upper in groups:
            yield from _of_group(groups[upper], value)
        elif _HEADERS.fullmatch(upper):
            for header in value.split(","):
                yield from _written(header.partition("=")[2])
        elif _names_secret(name, value):
            yield from _written(value)
        elif "://" in value:
            yield from _of_url(value)


def _secret_variables() -> tuple[set[str], dict[str, type[Group]]]:
    """The variables of secret settings, and the groups by the variables that hold them as JSON."""
    known, groups = {*DATABASE_URL_VARIABLES, *MIGRATION_URL_VARIABLES}, dict[str, type[Group]]()
    for name, field in Settings.model_fields.items():
        variable, kind = f"HEADRACE_{name}".upper(), field.annotation
        if isinstance(kind, type) and issubclass(kind, Group):
            groups[variable] = kind
            known |= {f"{variable}__{key}".upper() for key in _secret_fields(kind)}
    known |= {f"HEADRACE_{name}".upper() for name in _secret_fields(Settings)}
    return known, groups


def _secret_fields(kind: type[BaseModel]) -> list[str]:
    return [
        field.alias or name
        for name, field in kind.model_fields.items()
        if field.annotation in (SecretStr, SecretStr | None)
    ]


def _of_group(kind: type[Group], value: str) -> Iterator[str]:
    with suppress(ValueError, RecursionError):
        given: Any = json.loads(value)
        if isinstance(given, Mapping):
            for name in _secret_fields(kind):
                yield from _parts(str(given.get(name) or ""))


def _names_secret(name: str, value: str) -> bool:
    if _PATH.fullmatch(value) or _is_file(value):
        return False
    if _PUBLIC.search(name) and "PRIVATE" not in value:
        return False
    return bool(_SECRET.search(name) or (_KEY.search(name) and not _WORD.fullmatch(value)))


def _is_file(value: str) -> bool:
    try:
        return value.startswith(("/", "./")) and Path(value).exists()
    except (OSError, ValueError):
        return False


def _of_url(value: str) -> Iterator[str]:
    try:
        password = urlsplit(value).password
    except ValueError:
        return
    if password:
        yield from (password, unquote(password))


def _of_settings(group: BaseModel) -> Iterator[str]:
    for name in type(group).model_fields:
        value = getattr(group, name)
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from _of_settings(value)


def _parts(text: str) -> Iterator[str]:
    """A secret setting, and the secrets in it: passwords of a URL, or keys between commas."""
    yield from _written(text)
    yield from passwords_in(text)
    # The hosts of a URL are no secrets.
    for part in () if "://" in text else text.split(","):
        yield part.strip()
        yield part.strip().removeprefix("whsec_")


def _written(text: str) -> Iterator[str]:
    """A secret as it stands, and as Python prints it: a key in PEM form has several lines."""
    yield text.strip()
    if not text.isprintable():
        yield repr(text.strip())[1:-1]
