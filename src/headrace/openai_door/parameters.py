"""The parameters of requests that headrace itself does not know: passed on, or refused.

A parameter that the graph's context schema names is the graph's: it gets it in its context. All
others would have no effect, and are refused, unless they ask for what happens anyway.
"""

from collections.abc import Callable, Mapping
from typing import Any

from headrace.errors import InvalidRequest

Check = Callable[[Any], bool]


def _one_of(*usual: Any) -> Check:
    """Any of the values. JSON's ``true`` is no 1, and its ``false`` no 0."""

    def check(value: Any) -> bool:
        return any(value == one and (value is one or not isinstance(value, bool)) for one in usual)

    return check


def _members(**usual: Check) -> Check:
    """An object whose members are null, or as the checks have them."""

    def check(value: Any) -> bool:
        return isinstance(value, Mapping) and all(
            one is None or (name in usual and usual[name](one)) for name, one in value.items()
        )

    return check


def _anything(value: Any) -> bool:
    return True


_TEXT = _one_of({"type": "text"})

#: Values that ask for what happens anyway: OpenAI's defaults, which many clients always send, and
#: hints to OpenAI's caches and checks, which change no reply anywhere.
_USUAL: Mapping[str, Check] = {
    "access_programs": _members(cyber=_one_of("standard")),
    "background": _one_of(False),
    "background_options": _members(completion_window=_one_of("soonest")),
    "context_management": _one_of([]),
    "frequency_penalty": _one_of(0),
    "function_call": _one_of("auto", "none"),
    "functions": _one_of([]),
    "image": _members(context_compression=_one_of("auto")),
    "include": _one_of([]),
    "logit_bias": _one_of({}),
    "logprobs": _one_of(False),
    "modalities": _one_of(["text"]),
    "n": _one_of(1),
    "parallel_tool_calls": _one_of(True),
    "presence_penalty": _one_of(0),
    "prompt_cache_key": _anything,
    "prompt_cache_options": _members(mode=_anything, ttl=_anything, prewarm=_one_of(False)),
    "prompt_cache_retention": _anything,
    "reasoning": _members(context=_one_of("auto")),
    "response_format": _TEXT,
    "safety_identifier": _anything,
    "service_tier": _one_of("auto", "default"),
    "stop": _one_of([]),
    "store": _one_of(False),
    "temperature": _one_of(1),
    "text": _members(format=_TEXT, verbosity=_one_of("medium")),
    "tool_choice": _one_of("auto", "none"),
    "tools": _one_of([]),
    "top_logprobs": _one_of(0),
    "top_p": _one_of(1),
    "truncation": _one_of("disabled"),
    "verbosity": _one_of("medium"),
}

#: What no graph could honour, because the answer has no place for it; and what to do.
_NEVER = {
    "audio": "a reply is text",
    "background": "the answer is the whole response; POST /runs makes runs in the background",
    "conversation": "name a thread in metadata.thread_id",
    "function_call": "send tools and tool_choice, which took its place",
    "functions": "send tools, which took its place",
    "include": "a response has no more parts than it shows",
    "logprobs": "replies have none",
    "modalities": "a reply is text",
    "n": "a run makes one reply; send several requests",
    "prompt": "this server keeps no prompts; send input",
    "store": "metadata.thread_id names the thread that keeps a conversation",
    "top_logprobs": "replies have none",
}


def passed_on(
    given: Mapping[str, Any] | None, graph_id: str, fields: frozenset[str]
) -> dict[str, Any]:
    """The parameters that the graph gets.

    :param given: the parameters that headrace does not know.
    :param fields: what the context schema of the graph names.
    :raises InvalidRequest: a parameter would have no effect.
    """
    given = given or {}
    passed: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name in fields and name not in _NEVER:
            # Also a usual value: the graph's own default may be another.
            passed[name] = value
        elif not _is_usual(name, value, given):
            nobody = (
                f"the context schema of graph '{graph_id}' has no such field, so nothing would"
                " read it; leave it out, or let the graph have it"
            )
            raise InvalidRequest(f"{name}: {_NEVER.get(name, nobody)}")
    return passed


def _is_usual(name: str, value: Any, given: Mapping[str, Any]) -> bool:
    """Whether a parameter asks for what happens anyway."""
    if name == "tool_choice" and value == "none" and given.get("tools"):
        # OpenAI's default without tools; with tools it forbids them.
        return False
    return name in _USUAL and _USUAL[name](value)


def refuse_options(options: Any) -> None:
    """Refuse options of a stream that would have no effect.

    :raises InvalidRequest: there is one.
    """
    for name, value in (getattr(options, "model_extra", None) or {}).items():
        if value not in (None, False):
            raise InvalidRequest(f"stream_options.{name}: headrace has no such option")
