"""The configuration of runs and assistants (LangChain's ``RunnableConfig``), and its keys."""

from typing import Annotated, Any

from pydantic import AfterValidator

from headrace.ids import canonical_uuid

#: The largest value of Postgres's ``integer``.
MAX_RECURSION_LIMIT = 2**31 - 1
MAX_CONCURRENCY = 10_000


def checked_config(config: dict[str, Any]) -> dict[str, Any]:
    """``config`` without keys that are null. Unknown keys stay.

    :raises ValueError: no run can use a value, or a value would have no effect.
    """
    given = {key: value for key, value in config.items() if value is not None}
    if "recursion_limit" in given:
        given["recursion_limit"] = _steps(given["recursion_limit"])
    concurrency = given.get("max_concurrency", 0)
    if not _is_whole(concurrency, least=0) or concurrency > MAX_CONCURRENCY:
        raise ValueError(
            f"max_concurrency: send a whole number up to {MAX_CONCURRENCY}; 0 is no limit"
        )
    if given.get("callbacks"):
        raise ValueError("callbacks: these are Python objects, which a client cannot send")
    for key in ("metadata", "configurable"):
        if not isinstance(given.get(key, {}), dict):
            raise ValueError(f"{key} must be an object")
    tags = given.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("tags: send a list of texts")
    if not isinstance(given.get("run_name", ""), str):
        raise ValueError("run_name: send a text")
    if "run_id" in given:
        raise ValueError("run_id: the server gives each run its id; leave it out")
    return given


def checked_assistant_config(config: dict[str, Any]) -> dict[str, Any]:
    """As :func:`checked_config`, for an assistant, which belongs to no thread.

    :raises ValueError: as there; or ``configurable`` names a checkpoint.
    """
    given = checked_config(config)
    for key in CHECKPOINT_KEYS:
        if given.get("configurable", {}).get(key):
            raise ValueError(
                f"configurable.{key}: a checkpoint belongs to one thread, an assistant to none;"
                " send it with the run"
            )
    return given


#: The keys that name a checkpoint, in ``configurable`` or in ``checkpoint``.
CHECKPOINT_KEYS = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")

#: Keys of ``configurable`` that the server gives to each run.
_SERVER_KEYS = frozenset({"run_id", "thread_id", "graph_id", "assistant_id"})


def is_callers(key: str) -> bool:
    """Whether a caller may set this key of ``configurable``.

    Keys with two underscores, and those of ``langgraph_``, are LangGraph's and the server's. They
    are passed over, not refused: a graph that calls another server's graph sends its own.
    """
    return (
        key not in CHECKPOINT_KEYS
        and key not in _SERVER_KEYS
        and not key.startswith(("__", "langgraph_"))
    )


RunConfig = Annotated[dict[str, Any], AfterValidator(checked_config)]
AssistantConfig = Annotated[dict[str, Any], AfterValidator(checked_assistant_config)]


def checked_checkpoint(given: dict[str, Any], where: str) -> dict[str, Any]:
    """The keys of ``given`` that name a checkpoint, with ids in LangGraph's spelling.

    :raises ValueError: a value cannot name a checkpoint.
    """
    named: dict[str, Any] = {}
    if checkpoint_id := given.get("checkpoint_id"):
        named["checkpoint_id"] = _checkpoint_id(checkpoint_id, f"{where}checkpoint_id")
    if (checkpoint_ns := given.get("checkpoint_ns")) is not None:
        if not isinstance(checkpoint_ns, str):
            raise ValueError(f"{where}checkpoint_ns: send a text")
        named["checkpoint_ns"] = checkpoint_ns
    if (by_namespace := given.get("checkpoint_map")) is not None:
        if not isinstance(by_namespace, dict):
            raise ValueError(f"{where}checkpoint_map: send an object")
        named["checkpoint_map"] = {
            ns: _checkpoint_id(one, f"{where}checkpoint_map.{ns}")
            for ns, one in by_namespace.items()
        }
    return named


def _checkpoint_id(value: Any, where: str) -> str:
    found = canonical_uuid(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            f"{where}: send the UUID of a checkpoint, as the thread's history lists them"
        )
    return found


def _steps(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not _is_whole(value, least=1) or value > MAX_RECURSION_LIMIT:
        raise ValueError("recursion_limit: send a whole number from 1 on")
    number: int = value
    return number


def _is_whole(value: Any, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
