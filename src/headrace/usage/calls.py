"""What LangChain tells of a model call: the model's name, and the tokens that it reports.

User code makes these objects, so nothing about them is sure.
"""

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.outputs import LLMResult

from headrace.checkpoints.tally import Tokens

#: Longer names of models are cut.
_NAME_CHARACTERS = 200
#: More tokens than any call can use: such a figure is a defect of the model's class.
_MOST_TOKENS = 10**12
UNNAMED = "unknown"


def asked_model(
    serialized: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None, options: Any
) -> str:
    """The model that the code asks for; the class of the model if that names none.

    This name is known before the call, so that failed calls have it too. A provider may answer with
    the name of a snapshot of it.
    """
    found: Any = (metadata or {}).get("ls_model_name")
    if not found and isinstance(options, Mapping):
        found = options.get("model") or options.get("model_name")
    if not found and serialized:
        path = serialized.get("id")
        found = serialized.get("name") or (path[-1] if isinstance(path, list) and path else None)
    return _plain(found)


def reported_tokens(response: LLMResult | None) -> Tokens | None:
    """The tokens of a call; None if the model does not report any.

    A call may give several answers (``n``). Each has the figures of the whole call. A call that
    broke off may have a part of an answer.
    """
    for answers in response.generations if response is not None else []:
        for answer in answers:
            message = getattr(answer, "message", None)
            if isinstance(message, AIMessage) and message.usage_metadata:
                return counted_tokens(message.usage_metadata)
    return None


def from_cache(response: LLMResult) -> bool:
    """Whether LangChain's cache has given the answer: no model was asked.

    ``BaseChatModel._convert_cached_generations`` sets ``total_cost`` to 0 in the usage of an answer
    from the cache; nothing else sets it.
    """
    usages = [
        getattr(getattr(answer, "message", None), "usage_metadata", None)
        for answers in response.generations
        for answer in answers
    ]
    return any(isinstance(usage, Mapping) and usage.get("total_cost") == 0 for usage in usages)


def counted_tokens(usage: Mapping[str, Any]) -> Tokens:
    """The tokens in the ``usage_metadata`` of a message."""
    return Tokens(
        input=_count(usage.get("input_tokens")),
        output=_count(usage.get("output_tokens")),
        cached=_count(_detail(usage, "input_token_details", "cache_read")),
        reasoning=_count(_detail(usage, "output_token_details", "reasoning")),
    )


def _detail(usage: Mapping[str, Any], group: str, name: str) -> Any:
    details = usage.get(group)
    return details.get(name) if isinstance(details, Mapping) else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value <= _MOST_TOKENS else 0


def _plain(name: Any) -> str:
    """A name that Postgres and Prometheus take."""
    if not isinstance(name, str):
        return UNNAMED
    return "".join(one for one in name[:_NAME_CHARACTERS] if one.isprintable()) or UNNAMED
