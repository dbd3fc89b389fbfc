"""``headrace settings``: every setting, as it is now or as the page ``docs/configuration.md``."""

import inspect
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
import typer
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from headrace.observability.masking import mask_text
from headrace.server.own_secrets import mask_own
from headrace.settings import Settings

_INTRODUCTION = """\
# Configuration

Every setting is an environment variable. The help of an option of the command line names the
variable that it replaces. Durations have their unit in the name. headrace refuses to start with a
value that it cannot use ([HR001](errors.md#hr001)), and warns of a `HEADRACE_` variable that no
setting reads.

`headrace settings` prints the values that a server started here would have. This page is printed by
`headrace settings --markdown`.
"""

#: The settings in groups that the README shows.
_FIRST = (
    ("auth", "mode"),
    ("database", "url"),
    ("database", "pool_max"),
    ("server", "grace_seconds"),
    ("worker", "max_concurrent_runs"),
    ("observability", "log_level"),
)

#: The settings without a group that it does not show.
_LATER = ("runtime_dir", "chat_messages", "chat_graph")

_TABLE_STARTS, _TABLE_ENDS = "<!-- settings -->\n", "<!-- /settings -->"

_TOP = "What is served, where, and by how many processes."

_TYPES: dict[Any, str] = {
    bool: "boolean",
    float: "number",
    int: "integer",
    str: "text",
    Path: "path",
    SecretStr: "secret",
    tuple[str, ...]: "list of texts, in JSON",
}


def settings(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/configuration.md instead.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="In a checkout: write that page and README's table.")
    ] = False,
) -> None:
    """Print every setting with its present value; passwords are not shown."""
    if write:
        Path("docs/configuration.md").write_text(configuration_page())
        readme = Path("README.md")
        readme.write_text(with_table(readme.read_text()))
        return
    if markdown:
        typer.echo(configuration_page(), nl=False)
        return
    found = Settings()
    mask_own(found)
    typer.echo(present_values(found), nl=False)


def configuration_page() -> str:
    """All settings by group, in Markdown."""
    top = [(name, field) for name, field in _fields(Settings) if _group(field) is None]
    parts = [_INTRODUCTION, _section("Serving", _TOP, "HEADRACE_", top)]
    for name, field in _fields(Settings):
        group = _group(field)
        if group is not None:
            prefix = f"HEADRACE_{name.upper()}__"
            about = inspect.getdoc(group) or ""
            parts.append(_section(name.capitalize(), about, prefix, list(_fields(group))))
    return "\n".join(parts)


def readme_table() -> str:
    """The most important settings, for the README."""
    shown = [
        *[
            (f"HEADRACE_{name.upper()}", field)
            for name, field in _fields(Settings)
            if _group(field) is None and name not in _LATER
        ],
        *[
            (f"HEADRACE_{group.upper()}__{name.upper()}", _group_fields(group)[name])
            for group, name in _FIRST
        ],
    ]
    return _table(shown)


def with_table(readme: str) -> str:
    """The README with the present table between its two marks."""
    before, start, rest = readme.partition(_TABLE_STARTS)
    _, end, after = rest.partition(_TABLE_ENDS)
    return f"{before}{start}{readme_table()}{end}{after}"


def present_values(found: Settings) -> str:
    """A line ``VARIABLE=value`` for each setting that has a value."""
    lines = []
    for name, field in _fields(Settings):
        value = getattr(found, name)
        if _group(field) is None:
            lines.append(_assignment(f"HEADRACE_{name}", value))
        else:
            lines += [
                _assignment(f"HEADRACE_{name}__{field.alias or key}", getattr(value, key))
                for key, field in _fields(type(value))
            ]
    return "".join(lines)


def _assignment(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        value = json.dumps(value)
    return "" if value is None else f"{name.upper()}={mask_text(str(value))}\n"


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields that a user may set; headrace computes those that are left out of dumps."""
    for name, field in model.model_fields.items():
        if not field.exclude:
            yield name, field


def _group(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _section(title: str, about: str, prefix: str, fields: list[tuple[str, FieldInfo]]) -> str:
    named = [(f"{prefix}{field.alias or name}".upper(), field) for name, field in fields]
    return "\n".join([f"## {title}", "", about, "", _table(named)])


def _table(named: Iterable[tuple[str, FieldInfo]]) -> str:
    rows = [
        f"| `{variable}` | {_type(field)} | {_default(field)} | {field.description} |"
        for variable, field in named
    ]
    head = ["| Variable | Type | Default | What it does |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def _group_fields(name: str) -> dict[str, FieldInfo]:
    group = _group(Settings.model_fields[name])
    assert group is not None
    return group.model_fields


def _type(field: FieldInfo) -> str:
    kind = field.annotation
    if NoneType in get_args(kind):
        (kind,) = (part for part in get_args(kind) if part is not NoneType)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in get_args(kind))
    return " ".join([_TYPES[kind], *(_bound(item) for item in field.metadata)])


def _bound(constraint: Any) -> str:
    match constraint:
        case annotated_types.Gt(gt=bound):
            return f"above {bound}"
        case annotated_types.Ge(ge=bound):
            return f"from {bound}"
        case annotated_types.Le(le=bound):
            return f"to {bound}"
    raise TypeError(f"say in words what {constraint!r} means")


def _default(field: FieldInfo) -> str:
    return "" if field.default in (None, "", ()) else f"`{field.default}`"
