"""What is abuse: too many frames of one connection that cost work and ask for nothing."""

from collections import deque

from millrace.wire import limits


class FloodMeter:
    """Counts frames of one kind. Reading them keeps the loop from all other connections."""

    def __init__(self) -> None:
        self._came_at: deque[float] = deque(maxlen=limits.MAX_REFUSED)  # the latest

    def count(self, now: float) -> bool:
        """Count a frame that came at `now`, in seconds; return whether there were too many in too short a time."""
        self._came_at.append(now)
        is_full = len(self._came_at) == self._came_at.maxlen
        return is_full and now - self._came_at[0] < limits.REFUSED_WITHIN_S
