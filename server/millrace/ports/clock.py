"""Time."""

from collections.abc import Callable

Clock = Callable[[], float]  # seconds
