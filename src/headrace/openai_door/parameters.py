"""The parameters of requests that headrace itself does not know: passed on, or refused.

A parameter that the graph's context schema names is the graph's: it gets it in its context. All
others would have no effect, and are refused, unless they say what happens anyway.
"""

from collections.abc import Callable, Mapping
from typing import Any

from headrace.errors import InvalidRequest

#: What OpenAI takes for hints to its caches and its checks: they change no reply anywhere.
_HINTS = frozenset(
    {
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
    }
)

#: Values that ask for what happens anyway.
_USUAL: Mapping[str, Callable[[Any], bool]] = {
    "background": lambda value: value is False,
    "include": lambda value: value == [],
    "logprobs": lambda value: value is False,
    "modalities": lambda value: value == ["text"],
    "n": lambda value: value == 1,
    "response_format": lambda value: value == {"type": "text"},
    "service_tier": lambda value: value in ("auto", "default"),
    "store": lambda value: value is False,
    "text": lambda value: value in ({}, {"format": {"type": "text"}}),
    "tool_choice": lambda value: value == "auto",
    "tools": lambda value: value == [],
    "top_logprobs": lambda value: value == 0,
    "truncation": lambda value: value == "disabled",
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
    passed: dict[str, Any] = {}
    for name, value in (given or {}).items():
        if value is None or name in _HINTS or (name in _USUAL and _USUAL[name](value)):
            continue
        if name in _NEVER:
            raise InvalidRequest(f"{name}: {_NEVER[name]}")
        if name not in fields:
            raise InvalidRequest(
                f"{name}: the context schema of graph '{graph_id}' has no such field, so nothing"
                " would read it; leave it out, or let the graph have it"
            )
        passed[name] = value
    return passed


def refuse_options(options: Any) -> None:
    """Refuse options of a stream that would have no effect.

    :raises InvalidRequest: there is one.
    """
    for name, value in (getattr(options, "model_extra", None) or {}).items():
        if value not in (None, False):
            raise InvalidRequest(f"stream_options.{name}: headrace has no such option")
