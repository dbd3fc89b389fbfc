"""Names of objects in a manifest: ``file.py:attribute`` or ``package.module:attribute``."""

from typing import Annotated

from pydantic import AfterValidator


def has_attribute(value: str) -> str:
    """``value``, if it has this form.

    :raises ValueError: it does not.
    """
    module, colon, attribute = value.rpartition(":")
    if not colon or not module or not attribute.isidentifier():
        raise ValueError(f"{value!r} is not of the form ./file.py:attribute")
    return value


#: A text of that form.
ObjectPath = Annotated[str, AfterValidator(has_attribute)]


def module_of(path: str) -> str:
    """The part before the colon."""
    return path.rpartition(":")[0]


def attribute_of(path: str) -> str:
    """The part after the colon."""
    return path.rpartition(":")[2]


def names_a_file(path: str) -> bool:
    """Whether the module is a file; else it is a dotted module."""
    module = module_of(path)
    return module.endswith(".py") or "/" in module
