"""What the clients of a mixed load ask: what is new, what was asked before, and what was asked in other words."""

import json
from collections import deque
from random import Random

from tests.bench import questions as benched
from tests.support.paths import REPOSITORY

REMEMBERED = 2000  # of those asked before
PAIRS = ("everyday", "service", "changes")
SLOW = "[tokens=120] [rate=100]"  # more than a second, so that there is time to leave


class Questions:
    """Makes questions; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(f"fire questions {seed}")
        self._new = benched.new(f"fire {seed}")
        self._asked: deque[str] = deque(maxlen=REMEMBERED)
        files = (REPOSITORY / "tests" / "data" / "pairs" / f"{name}.jsonl" for name in PAIRS)
        rows = [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]
        self._pairs = [(row["a"], row["b"]) for row in rows]

    def new(self) -> str:
        """Return a question that nobody has asked."""
        question = next(self._new)
        self._asked.append(question)
        return question

    def slow(self) -> str:
        """Return a new one whose answer takes a second."""
        return f"{next(self._new)} {SLOW}"

    def again(self) -> str:
        """Return one that was asked before."""
        return self._random.choice(self._asked) if self._asked else self.new()

    def near(self) -> str:
        """Return a question that is asked in other words too, or one that only looks like it."""
        pair: tuple[str, str] = self._random.choice(self._pairs)
        return self._random.choice(pair)

    def any(self) -> str:
        """Return one of these kinds."""
        return self._random.choice((self.new, self.again, self.near, self.near))()
