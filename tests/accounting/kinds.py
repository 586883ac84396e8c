"""The ways in which requests end."""

from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

SYSTEM = "You know everything about mills, and you say so in a few words that anybody understands at once. " * 15
SLOW = "[ttft=0.02] [tokens=60] [rate=300]"
MOST_WAIT_S = 0.3


class Way(StrEnum):
    """How a client sends a request, and takes its end."""

    SOCKET = "socket"  # on a WebSocket, to the end
    HTTP = "http"  # as one document
    CANCEL = "cancel"  # on a WebSocket, with a cancel after a while
    LEAVE = "leave"  # streamed over HTTP, and left after a while


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One way to end."""

    name: str
    weight: float
    directives: str = "[tokens=8]"
    way: Way = Way.SOCKET
    options: dict[str, Any] = field(default_factory=dict)
    together: tuple[int, int] = (1, 1)  # requests that ask the same at once, from and to
    again: bool = False  # asks what was answered before
    is_refused: bool = False  # it never gets a row


def _http(**fields: Any) -> dict[str, Any]:
    return {"way": Way.HTTP, "options": fields}


KINDS = (
    Kind(name="completed by small", weight=20),
    Kind(name="completed by large", weight=8, options={"strategy": "large"}),
    Kind(name="long prompt", weight=6, options={"instructions": SYSTEM}),
    Kind(name="as one document", weight=6, **_http()),
    Kind(name="cached", weight=14, again=True),
    Kind(name="joined", weight=4, directives="[tokens=20] [rate=400]", together=(2, 4)),
    Kind(name="joined, some cancelled", weight=4, directives=SLOW, together=(2, 4), way=Way.CANCEL),
    Kind(name="revised", weight=6, directives="[weak]"),
    Kind(name="raced", weight=4, options={"strategy": "race"}, directives="[tokens=8] [ttft.small=0.01]"),
    Kind(name="raced, small weak", weight=2, options={"strategy": "race"}, directives="[weak] [ttft.large=0.02]"),
    Kind(
        name="hedged",
        weight=3,
        options={"strategy": "hedge", "hedge_ms": 20},
        directives="[ttft.small=0.15] [tokens=8]",
    ),
    Kind(name="cancelled", weight=5, directives=SLOW, way=Way.CANCEL),
    Kind(name="race cancelled", weight=2, directives=SLOW, way=Way.CANCEL, options={"strategy": "race"}),
    Kind(name="left", weight=4, directives=SLOW, way=Way.LEAVE),
    Kind(name="timed out", weight=3, directives=SLOW, options={"deadline_ms": 90}),
    Kind(name="timed out before a word", weight=1, directives="[ttft=1] [tokens=9]", options={"deadline_ms": 60}),
    Kind(name="cut at its cap", weight=3, directives="[tokens=30]", options={"max_output_tokens": 5}),
    Kind(name="no usage", weight=3, directives="[fault=nousage]"),
    Kind(name="reasoned", weight=2, directives="[reason=10] [tokens=8]"),
    Kind(name="small fails at once", weight=1, directives="[fault.small=error] [tokens=8]"),
    Kind(name="small breaks off", weight=1, directives="[fault.small=hangup@4] [tokens=30]"),
    Kind(name="both break off", weight=0.5, directives="[fault=reset@3] [tokens=30]"),
    Kind(name="both fail", weight=0.5, directives="[fault=error]"),
    Kind(name="refused", weight=1, options={"tools": [{"type": "function"}]}, is_refused=True),
)
DRAINED = Kind(name="drained", weight=0, directives="[ttft=0.02] [tokens=400] [rate=80]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request."""

    kind: Kind
    number: int  # its own
    question: int  # the number that its text has
    text: str
    wait_s: float | None = None  # until it is cancelled or left

    @property
    def tag(self) -> str:
        """What its row in the ledger is found by."""
        return f"ask-{self.number}"


class Asks:
    """Makes requests; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._made = 0
        self._answered: list[tuple[int, str]] = []  # questions, and their texts
        self._weights = [kind.weight for kind in KINDS]

    def next(self) -> list[Ask]:
        """Return the next request, or some that are to be sent together."""
        (kind,) = self._random.choices(KINDS, self._weights)
        return self.of(kind)

    def of(self, kind: Kind) -> list[Ask]:
        """Return requests of a kind."""
        question, text = self._made, f"What is in question {self._made}? {kind.directives}"
        if kind.again and self._answered:
            question, text = self._random.choice(self._answered)
        count = self._random.randint(*kind.together)
        found = []
        for _ in range(count):
            is_left = kind.way in (Way.CANCEL, Way.LEAVE) and (count == 1 or self._random.random() < 0.5)
            wait_s = self._random.uniform(0, MOST_WAIT_S) if is_left else None
            found.append(Ask(kind=kind, number=self._made, question=question, text=text, wait_s=wait_s))
            self._made += 1
        return found

    def learn(self, ask: Ask) -> None:
        """Note that a question was answered, so that it may be asked again."""
        self._answered.append((ask.question, ask.text))
