"""What ``on`` handlers change in the values that they are shown.

A handler may change some parts of a value. What it has changed is checked as what a caller sends.
A change of any other part would be ignored, so it is an error: a handler that believes in it may
let callers see too much.
"""

from collections.abc import Collection, Mapping
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from headrace.auth.filters import with_filter
from headrace.auth.principal import Principal
from headrace.json_text import json_text

Body = TypeVar("Body", bound=BaseModel)

#: Handlers write it into every value: LangGraph's documentation tells them to. Where a row has
#: none to read, to write or to search by, it has no effect.
METADATA = "metadata"


class WrongChange(Exception):
    """A handler has changed what it may not, or to what nothing can be.

    :param field: the part of the value.
    """

    def __init__(self, field: str, cause: str) -> None:
        super().__init__(f"{field}: {cause}")
        self.field = field
        self.cause = cause


class ShownValue:
    """A value before a handler sees it.

    :param free: the parts that the handler may replace.
    :param in_place: the parts that it may change, but not replace.
    """

    def __init__(
        self, value: dict[str, Any], *, free: Collection[str] = (), in_place: Collection[str] = ()
    ) -> None:
        self._value = value
        self._free = {METADATA, *free}
        self._in_place = {name: value[name] for name in in_place}
        # As texts: a handler may also change a list or an object in place.
        self._texts = {
            name: json_text(part) for name, part in value.items() if name not in self._in_place
        }

    def refuse_others(self) -> None:
        """:raises WrongChange: the handler has changed another part, or replaced one."""
        for name in {**self._texts, **self._value}:
            if name in self._free or name in self._in_place:
                continue
            if name not in self._texts:
                raise WrongChange(name, "there is no such part, so it would have no effect")
            if self.has_changed(name):
                raise WrongChange(name, "it has changed, and it may not: this would have no effect")
        for name, part in self._in_place.items():
            if self._value.get(name) is not part:
                raise WrongChange(name, "it was replaced; change it in place")
        if not isinstance(self._value.get(METADATA), dict | None):
            raise WrongChange(METADATA, "it is no dict")

    def has_changed(self, name: str) -> bool:
        """Whether the handler has left another part under this name."""
        return json_text(self.left(name)) != self._texts.get(name)

    def left(self, name: str) -> Any:
        """The part as the handler has left it; None: it has removed it."""
        return self._value.get(name)


class ShownBody(Generic[Body]):
    """A body before a handler sees it.

    :param names: of the fields that the handler may change, by the names in its value.
    :param value: what else it sees. A dict it may change in place.
    :param unheeded: parts that it may change without effect.
    """

    def __init__(
        self,
        body: Body,
        names: Mapping[str, str],
        value: Mapping[str, Any],
        unheeded: Collection[str],
    ) -> None:
        self._body = body
        self._names = names
        parts = {name: _shown(name, getattr(body, field)) for name, field in names.items()}
        self.value = {**value, **parts}
        dicts = (name for name, part in value.items() if isinstance(part, dict))
        self._before = ShownValue(
            self.value,
            free=[*names, *unheeded],
            in_place=[name for name in dicts if name != METADATA],
        )

    def left(self) -> Body:
        """The body as the handler has left it.

        :raises WrongChange: no caller could send this, or the change would have no effect.
        """
        self._before.refuse_others()
        return body_left(self._body, self._before, self._names)

    def made(self, principal: Principal) -> Body:
        """As :meth:`left`, with the metadata that the caller's filter finds."""
        body = self.left()
        if METADATA not in self._names or not principal.filter:
            return body
        metadata = with_filter(getattr(body, METADATA) or {}, principal)
        return body.model_copy(update={METADATA: metadata})


def _shown(name: str, part: Any) -> Any:
    if name == METADATA:
        return part or {}
    return part.model_dump() if isinstance(part, BaseModel) else part


def body_left(body: Body, before: ShownValue, names: Mapping[str, str]) -> Body:
    """The body with what a handler has changed. The other fields stay as they were checked before.

    :param names: of the fields, by the names under which handlers see them.
    :raises WrongChange: no caller could send this.
    """
    changed = body.model_copy()
    for name, field in names.items():
        if not before.has_changed(name):
            continue
        try:
            type(body).__pydantic_validator__.validate_assignment(changed, field, before.left(name))
        except ValidationError as error:
            raise WrongChange(name, cause_of(error)) from None
    return changed


def cause_of(error: ValidationError) -> str:
    """What is wrong with a value, and where in it; the value itself may be a secret."""
    first = error.errors(include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
