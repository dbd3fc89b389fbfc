"""The error that stands for an exit of user code."""


class UserExit(BaseException):
    """User code raised SystemExit, KeyboardInterrupt or GeneratorExit in a task.

    asyncio lets the first two end the event loop, and with it the process. headrace turns all three
    into this error at the edge of the task. This is not an ``Exception``: code that catches
    ``Exception`` catches neither this error nor the original.
    """

    def __init__(self, original: BaseException) -> None:
        super().__init__(original)
        self.original = original

    def __str__(self) -> str:
        return f"{type(self.original).__name__}: {self.original}"
