"""``file.py:attribute`` or ``package.module:attribute``: how a manifest names objects."""

from typing import Annotated

from pydantic import AfterValidator


def has_attribute(value: str) -> str:
    """``value`` itself.

    :raises ValueError: it is not of that form.
    """
    module, colon, attribute = value.rpartition(":")
    if not colon or not module or not attribute.isidentifier():
        raise ValueError(f"{value!r} is not of the form ./file.py:attribute")
    return value


#: A text of that form.
ObjectPath = Annotated[str, AfterValidator(has_attribute)]


def module_of(path: str) -> str:
    """What stands before the colon."""
    return path.rpartition(":")[0]


def attribute_of(path: str) -> str:
    """What stands after it."""
    return path.rpartition(":")[2]


def names_a_file(path: str) -> bool:
    """Whether the module is named by its file; else it is a dotted one."""
    module = module_of(path)
    return module.endswith(".py") or "/" in module
