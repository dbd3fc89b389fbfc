"""Functions that make graphs: what each takes, and what it is called with.

A factory may take the configuration and a ``ServerRuntime`` of langgraph-sdk, in any order: told
apart by annotation, then by name (``config``, ``runtime``), then by position, configuration first.
"""

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from dataclasses import dataclass
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from langchain_core.runnables import RunnableConfig
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph_sdk.runtime import AccessContext, ServerRuntime

from headrace.errors import StartupRefusal
from headrace.graphs.context import as_context

Part = Literal["config", "runtime"]

#: The two kinds of a ``ServerRuntime``, of which only one has a context: what the alias stands for.
_EXECUTED, _READ = (get_origin(kind) for kind in get_args(ServerRuntime.__value__))

#: In the order in which parameters get them that say nothing else.
_PARTS: tuple[Part, ...] = ("config", "runtime")

#: Annotations that say nothing about which part is meant.
_LOOSE = (inspect.Parameter.empty, Any, object, dict, Mapping)


@dataclass(frozen=True, slots=True)
class Factory:
    """A function that makes a graph, and which parameters of it are to be given what."""

    make: Callable[..., Any]
    parameters: Mapping[str, Part]
    #: Of them, those that take no name.
    positional: tuple[str, ...]
    #: What a ``ServerRuntime[...]`` was given as the type of its context.
    context_schema: Any

    @property
    def is_per_run(self) -> bool:
        """Whether what it makes depends on what is run."""
        return bool(self.parameters)

    async def enter(
        self,
        stack: AsyncExitStack,
        config: RunnableConfig,
        access: AccessContext,
        store: BaseStore,
        context: Mapping[str, Any],
    ) -> Any:
        """What it makes; whatever that opens is closed with ``stack``."""
        parts: dict[Part, Any] = {"config": config}
        if "runtime" in self.parameters.values():
            executed = access == "threads.create_run"
            given = as_context(self.context_schema, dict(context)) if executed else None
            told = {"access_context": access, "store": store}
            parts["runtime"] = _EXECUTED(**told, context=given) if executed else _READ(**told)
        named = {name: parts[part] for name, part in self.parameters.items()}
        made = self.make(*[named.pop(name) for name in self.positional], **named)
        if inspect.isawaitable(made):
            made = await made
        if isinstance(made, Pregel):
            return made
        if isinstance(made, AbstractAsyncContextManager):
            return await stack.enter_async_context(made)
        if isinstance(made, AbstractContextManager):
            return stack.enter_context(made)
        return made


def factory_of(value: Any, where: str) -> Factory | None:
    """``value`` as a factory; None when it is none.

    :param where: how refusals name it.
    :raises StartupRefusal: HR103 it is a generator, HR108 it takes what nobody can give it.
    """
    if not callable(value) or isinstance(value, Pregel | StateGraph | type):
        return None
    if inspect.isasyncgenfunction(value) or inspect.isgeneratorfunction(value):
        kind = "asynccontextmanager" if inspect.isasyncgenfunction(value) else "contextmanager"
        raise StartupRefusal(
            "HR103",
            where=where,
            what="it is a generator function, which makes no graph by itself",
            remedy=f"Put @contextlib.{kind} above it.",
        )
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return Factory(value, {}, (), None)
    hints = _hints(value)
    found: dict[str, Part] = {}
    for one in parameters:
        part = _part_of(one, hints.get(one.name, one.annotation), tuple(found.values()))
        if part is not None:
            found[one.name] = part
        elif one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            raise _takes_something_else(where, one.name)
    positional = tuple(
        one.name for one in parameters if one.kind is one.POSITIONAL_ONLY and one.name in found
    )
    return Factory(value, found, positional, _context_schema(hints.values()))


def _part_of(one: inspect.Parameter, hint: Any, taken: tuple[Part, ...]) -> Part | None:
    """What to give the parameter, if anything."""
    if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
        return None
    if _means(hint, RunnableConfig):
        return "config"
    if any(_means(hint, kind) for kind in (ServerRuntime, _EXECUTED, _READ)):
        return "runtime"
    for part in _PARTS:
        if one.name == part:
            return part
    if one.default is not one.empty or not _says_nothing(hint):
        return None
    return next((part for part in _PARTS if part not in taken), None)


def _says_nothing(hint: Any) -> bool:
    return isinstance(hint, str) or (get_origin(hint) or hint) in _LOOSE or is_typeddict(hint)


def _means(hint: Any, kind: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType, Annotated):
        return any(_means(one, kind) for one in get_args(hint))
    return hint is kind or origin is kind


def _context_schema(hints: Any) -> Any:
    for hint in hints:
        if get_origin(hint) in (ServerRuntime, _EXECUTED, _READ):
            return next(iter(get_args(hint)), None)
    return None


def _hints(value: Any) -> dict[str, Any]:
    """Annotations, resolved; those of a module whose names cannot be resolved stay texts."""
    target = value if inspect.isroutine(value) else type(value).__call__
    target = inspect.unwrap(getattr(value, "func", target))
    try:
        return get_type_hints(target, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # Names that only a type checker imports.
        return {}


def _takes_something_else(where: str, name: str) -> StartupRefusal:
    return StartupRefusal(
        "HR108",
        where=where,
        what=f"it has a parameter '{name}', for which there is nothing to give",
        remedy="A factory takes config: RunnableConfig, runtime: ServerRuntime, both, or nothing.",
    )
