"""The model calls of one attempt of a run, counted in memory."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from headrace.checkpoints.fence import RunToken

#: User code names models. After this many names in one attempt, others are counted together.
_MODELS_PER_ATTEMPT = 50
OTHER_MODELS = "__other__"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of calls. ``input`` contains ``cached``, and ``output`` contains ``reasoning``."""

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.reasoning + other.reasoning,
        )


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """The calls of one model, and their tokens."""

    calls: int = 0
    tokens: Tokens = Tokens()


class UsageTally:
    """The model calls of one attempt so far. Use it from any thread."""

    __slots__ = ("_changes", "_guard", "_models", "_taken", "spent", "thread_id", "token")

    def __init__(self, token: RunToken, thread_id: str) -> None:
        self.token = token
        self.thread_id = thread_id
        #: Input and output tokens of all models together.
        self.spent = 0
        self._models: dict[str, ModelUsage] = {}
        self._changes = 0
        #: The number of changes when the figures were last taken.
        self._taken = 0
        self._guard = threading.Lock()

    def add(self, model: str, tokens: Tokens) -> None:
        """Count one call."""
        with self._guard:
            if model not in self._models and len(self._models) >= _MODELS_PER_ATTEMPT:
                model = OTHER_MODELS
            before = self._models.get(model, ModelUsage())
            self._models[model] = ModelUsage(before.calls + 1, before.tokens + tokens)
            self.spent += tokens.input + tokens.output
            self._changes += 1

    def totals(self) -> dict[str, int]:
        """Input and output tokens, for the log; empty if no model was called."""
        with self._guard:
            used = [one.tokens for one in self._models.values()]
        if not used:
            return {}
        return {
            "input_tokens": sum(tokens.input for tokens in used),
            "output_tokens": sum(tokens.output for tokens in used),
        }

    @property
    def changed(self) -> bool:
        """Whether calls were counted since the last :meth:`take`."""
        return self._changes != self._taken

    def take(self) -> Mapping[str, ModelUsage]:
        """All figures of the attempt so far, to be stored."""
        with self._guard:
            self._taken = self._changes
            return dict(self._models)

    def give_back(self) -> None:
        """Note that the figures of the last :meth:`take` could not be stored."""
        self._taken = -1
