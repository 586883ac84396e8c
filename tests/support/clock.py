"""A clock that a test sets."""


class ManualClock:
    """Returns the same time until a test changes `now` (seconds)."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
