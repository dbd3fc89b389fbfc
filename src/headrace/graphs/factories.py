"""Factories: functions that make graphs, and the arguments that they get.

A factory may take the configuration, a ``ServerRuntime`` of langgraph-sdk, the checkpointer and the
store, in any order. headrace recognizes a parameter by annotation, then by name, then by position,
configuration first. A factory without configuration and runtime is called once, at start.
"""

import functools
import inspect
import re
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

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph_sdk.runtime import AccessContext, ServerRuntime

from headrace.errors import StartupRefusal
from headrace.graphs.context import as_context

_log = structlog.stdlib.get_logger("headrace.graphs")

Part = Literal["config", "runtime", "checkpointer", "store"]

#: The two classes behind the alias ``ServerRuntime``. Only the first has a context.
_EXECUTED, _READ = (get_origin(kind) for kind in get_args(ServerRuntime.__value__))

#: The order for parameters that neither an annotation nor a name explains.
_BY_POSITION: tuple[Part, ...] = ("config", "runtime")

#: Arguments that live as long as the process.
_LASTING: frozenset[Part] = frozenset({"checkpointer", "store"})

_BY_NAME: dict[str, Part] = {
    "config": "config",
    "runtime": "runtime",
    "checkpointer": "checkpointer",
    "checkpoint_saver": "checkpointer",
    "saver": "checkpointer",
    "store": "store",
}

#: Names of parameters that mean neither a configuration nor a runtime.
_MEANS_SOMETHING_ELSE = re.compile(
    r"(.*_)?(model|models|llm|tools?|prompt|messages?|memory|state|input|app|request|user|user_id"
    r"|thread_id|db|database|pool|conn|connection|session|engine|client|cache|logger|nodes?|agents?"
    r"|graph|builder|name|url|dsn|api_key|key)"
)

#: Annotations that do not explain the parameter.
_LOOSE = (inspect.Parameter.empty, Any, object, dict, Mapping)

#: How to read an annotation that cannot be resolved: by the end of its last name.
_BY_ENDING: tuple[tuple[str, Part], ...] = (
    ("RunnableConfig", "config"),
    ("ServerRuntime", "runtime"),
    ("Saver", "checkpointer"),
    ("Store", "store"),
)
_LOOSE_TEXT = re.compile(r"(typing\.)?(Any|object|dict|Dict|Mapping)\b")


@dataclass(frozen=True, slots=True)
class Factory:
    """A function that makes a graph, and the arguments for its parameters."""

    make: Callable[..., Any]
    parameters: Mapping[str, Part]
    #: The positional-only parameters.
    positional: tuple[str, ...]
    #: The type of the context, from ``ServerRuntime[...]``; else None.
    context_schema: Any

    @property
    def is_per_run(self) -> bool:
        """Whether the graph depends on the run."""
        return not _LASTING.issuperset(self.parameters.values())

    async def enter(
        self,
        stack: AsyncExitStack,
        config: RunnableConfig,
        access: AccessContext,
        checkpointer: BaseCheckpointSaver[Any],
        store: BaseStore,
        context: Mapping[str, Any],
    ) -> Any:
        """Call the factory. ``stack`` closes the context managers that it opens."""
        parts: dict[Part, Any] = {"config": config, "checkpointer": checkpointer, "store": store}
        if "runtime" in self.parameters.values():
            executed = access == "threads.create_run"
            given = as_context(self.context_schema, dict(context)) if executed else None
            # Only a run has a caller: a state is read without it.
            user = (config.get("configurable") or {}).get("langgraph_auth_user")
            told = {"access_context": access, "store": store, "user": user}
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
    """``value`` as a factory; None if it is not one.

    :param where: the name of the graph in refusals.
    :raises StartupRefusal: HR103 it is a generator, HR108 it has an unknown parameter.
    """
    if not callable(value) or isinstance(value, Pregel | StateGraph | type):
        return None
    _refuse_generator(value, where)
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return Factory(value, {}, (), None)
    hints = _hints(value)
    bound = _bound_by_keyword(value)
    found: dict[str, Part] = {}
    for one in parameters:
        if one.name in bound:
            continue
        part = _part_of(one, hints.get(one.name, one.annotation), where, tuple(found.values()))
        if part is not None:
            found[one.name] = part
        elif one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            raise _takes_something_else(where, one.name)
    positional = tuple(
        one.name for one in parameters if one.kind is one.POSITIONAL_ONLY and one.name in found
    )
    return Factory(value, found, positional, _context_schema(hints.values()))


def _part_of(one: inspect.Parameter, hint: Any, where: str, taken: tuple[Part, ...]) -> Part | None:
    """The argument for a parameter; None if it gets none."""
    if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
        return None
    if (annotated := _annotated_part(hint)) is not None:
        return annotated
    named = _BY_NAME.get(one.name)
    if named in _LASTING and not _says_nothing(hint):
        # The annotation is another type: LangGraph's saver or store would not do.
        return None
    if named is not None:
        return named
    if one.default is not one.empty or not _says_nothing(hint):
        return None
    if _MEANS_SOMETHING_ELSE.fullmatch(one.name):
        return None
    part = next((part for part in _BY_POSITION if part not in taken), None)
    if part is not None:
        _log.warning("factory_parameter_guessed", graph=where, parameter=one.name, given=part)
    return part


def _annotated_part(hint: Any) -> Part | None:
    if isinstance(hint, str):
        names = re.findall(r"\w+", hint.partition("[")[0])
        last = names[-1] if names else ""
        return next((part for ending, part in _BY_ENDING if last.endswith(ending)), None)
    if _means(hint, RunnableConfig):
        return "config"
    if any(_means(hint, kind) for kind in (ServerRuntime, _EXECUTED, _READ)):
        return "runtime"
    if _means_kind_of(hint, BaseCheckpointSaver):
        return "checkpointer"
    if _means_kind_of(hint, BaseStore):
        return "store"
    return None


def _says_nothing(hint: Any) -> bool:
    if isinstance(hint, str):
        return _LOOSE_TEXT.match(hint) is not None
    return (get_origin(hint) or hint) in _LOOSE or is_typeddict(hint)


def _means(hint: Any, kind: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType, Annotated):
        return any(_means(one, kind) for one in get_args(hint))
    return hint is kind or origin is kind


def _means_kind_of(hint: Any, kind: type) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType, Annotated):
        return any(_means_kind_of(one, kind) for one in get_args(hint))
    found = origin or hint
    return isinstance(found, type) and issubclass(found, kind)


def _context_schema(hints: Any) -> Any:
    for hint in hints:
        if get_origin(hint) in (ServerRuntime, _EXECUTED, _READ):
            return next(iter(get_args(hint)), None)
    return None


def _hints(value: Any) -> dict[str, Any]:
    """The resolved annotations; empty if a name cannot be resolved."""
    try:
        return get_type_hints(_function_of(value), include_extras=True)
    except (NameError, TypeError, AttributeError):
        # For example names that only a type checker imports.
        return {}


def _function_of(value: Any) -> Any:
    """The function whose code runs when ``value`` is called."""
    while isinstance(value, functools.partial):
        value = value.func
    return inspect.unwrap(value if inspect.isroutine(value) else type(value).__call__)


def _bound_by_keyword(value: Any) -> frozenset[str]:
    """The keyword arguments of a partial. They stay as the user has set them."""
    return frozenset(value.keywords) if isinstance(value, functools.partial) else frozenset()


def _refuse_generator(value: Any, where: str) -> None:
    """:raises StartupRefusal: HR103."""
    called = value
    while isinstance(called, functools.partial):
        called = called.func
    if not inspect.isroutine(called):
        called = type(called).__call__
    if not inspect.isasyncgenfunction(called) and not inspect.isgeneratorfunction(called):
        return
    kind = "asynccontextmanager" if inspect.isasyncgenfunction(called) else "contextmanager"
    raise StartupRefusal(
        "HR103",
        where=where,
        what="it is a generator function, which does not make a graph by itself",
        remedy=f"Put @contextlib.{kind} above it.",
    )


def _takes_something_else(where: str, name: str) -> StartupRefusal:
    return StartupRefusal(
        "HR108",
        where=where,
        what=f"it has a parameter '{name}', and headrace has no argument for it",
        remedy="A factory takes config: RunnableConfig, runtime: ServerRuntime, checkpointer:"
        " BaseCheckpointSaver and store: BaseStore, any of them or none; give other parameters"
        " defaults, or bind them with functools.partial.",
    )
