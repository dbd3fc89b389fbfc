"""What one agent does: how many tokens it hears, at what pace, and how long that takes."""

from dataclasses import dataclass

#: Seconds of one call of a tool, as in ``graph.py``.
TOOL_SECONDS = 0.4
TOOL_CALLS = 3
ANSWERS = TOOL_CALLS + 1
#: As in ``graph.py``: 13 steps, the input, and the state before the first step.
CHECKPOINTS = 15


@dataclass(frozen=True)
class Workload:
    """The model's pace; with its defaults a run takes 20 s."""

    tokens_per_answer: int = 220
    first_token_seconds: float = 0.3
    token_seconds: float = 0.02

    @property
    def tokens_per_run(self) -> int:
        return ANSWERS * self.tokens_per_answer

    @property
    def run_seconds(self) -> float:
        """Of a run whose server takes no time at all."""
        answer = self.first_token_seconds + (self.tokens_per_answer - 1) * self.token_seconds
        return ANSWERS * answer + TOOL_CALLS * TOOL_SECONDS

    @property
    def tokens_per_second(self) -> float:
        """Of one agent, its pauses included."""
        return self.tokens_per_run / self.run_seconds
