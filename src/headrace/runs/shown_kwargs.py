"""The ``kwargs`` of a run, as a handler for ``create_run`` sees and changes them."""

from typing import Any

from headrace.auth.handler_changes import ShownValue, WrongChange, body_left
from headrace.runs.schemas import RunCreate

#: Fields that a caller sends under these names too. Any value may be the input.
_CHECKED = frozenset(RunCreate.model_fields) - {"input"}
_DICTS = ("config", "context")
#: What policies and limits bound.
_BOUNDED = ("webhook", "deadline_seconds")


class ShownKwargs:
    """Before the handler sees them."""

    def __init__(self, kwargs: dict[str, Any]) -> None:
        self._kwargs = kwargs
        self._names = frozenset(kwargs)
        self._before = ShownValue(kwargs, in_place=self._names - _CHECKED)

    def check(self) -> None:
        """:raises WrongChange: no run can have what the handler has left."""
        if lost := min(self._names - self._kwargs.keys(), default=None):
            raise WrongChange(f"kwargs.{lost}", "it is gone")
        # Only a run with a deadline has one in its kwargs.
        if added := min(self._kwargs.keys() - self._names - {"deadline_seconds"}, default=None):
            raise WrongChange(f"kwargs.{added}", "it was added, and would have no effect")
        names = {name: name for name in _CHECKED & self._kwargs.keys()}
        try:
            # A body with no other fields: what the caller has sent is no fault of the handler.
            body_left(RunCreate(assistant_id="any"), self._before, names)
        except WrongChange as error:
            raise WrongChange(f"kwargs.{error.field}", error.cause) from None
        for name in _DICTS:
            if not isinstance(self._kwargs[name], dict):
                raise WrongChange(f"kwargs.{name}", "it is no dict")
        if not isinstance(self._kwargs["config"].get("configurable"), dict):
            raise WrongChange("kwargs.config", "it has no configurable")

    @property
    def bounded_have_changed(self) -> bool:
        """Whether the handler has left another webhook or deadline."""
        return any(self._before.has_changed(name) for name in _BOUNDED if name in self._kwargs)
