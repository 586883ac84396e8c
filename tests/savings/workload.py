"""The requests of a mix, in the order in which they come."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from millrace.simulator import prose
from tests.savings.mix import Mix
from tests.savings.pages import Asked, Pages

READ, SEARCH, WRITE = "read_file", "search_files", "write_file"
_TEXT = {"type": "string"}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "name": name,
        "description": description,
        "parameters": {
            "type": "object",
            "properties": dict.fromkeys(fields, _TEXT),
            "required": [*fields],
            "additionalProperties": False,
        },
    }
    for name, description, fields in (
        (READ, "Read a file of the workspace, whole.", ("path",)),
        (SEARCH, "Find the files of the workspace that have a text in them.", ("folder", "text")),
        (WRITE, "Write a file of the workspace, whole; what was in it before is lost.", ("path", "content")),
    )
]
ARGUMENTS: dict[str, Any] = {READ: {"path": "simulated"}, SEARCH: {"folder": "simulated", "text": "simulated 2"}}
FRAMES = ("Could you please tell me: {}", "Hi there! {} Thanks a lot.", "Quick question: {}", "{} Thank you!")


@dataclass(slots=True)
class Session:
    """An agent's work so far. Each request waits for the one before."""

    name: str
    is_chained: bool
    history: list[dict[str, Any]] = field(default_factory=list)
    last_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A request of an agent: a question that wants a tool first, or the tool's result, which wants an answer."""

    session: Session
    system: str
    tool: str
    wants_call: bool
    items: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request."""

    number: int
    kind: str
    asked: Asked
    text: str
    context: tuple[str, ...] = ()
    turn: Turn | None = None

    @property
    def tag(self) -> str:
        """What its row in the ledger is found by."""
        return f"ask-{self.number}"


class Workload:
    """All requests of a mix, and what the models have to know to answer them. Two halves have nothing in common."""

    def __init__(self, mix: Mix, half: int = 1) -> None:
        self._mix = mix
        self._random = Random(f"workload {mix.seed} {half}")
        self._pages = Pages(mix, half)
        self._new = self._pages.fresh()
        self._known: list[Asked] = []  # asked before, alone
        self._said: list[tuple[Asked, str]] = []  # the same with each wording that was used
        self._turns: list[Iterator[tuple[Asked, Turn]]] = []
        self._sessions = 0
        self.asks = [self._ask(number, kind) for number, kind in enumerate(self._kinds())]

    def book(self) -> str:
        """Return the file of answers for the simulated models."""
        return "".join(json.dumps(asked.page(), ensure_ascii=False) + "\n" for asked in self._pages.made)

    def judged(self) -> str:
        """Return what `millrace calibrate` reads: each question once, and which model answers it rightly."""
        rows, seen = [], set[int]()
        for ask in self.asks:
            if id(ask.asked) in seen:
                continue
            seen.add(id(ask.asked))
            system = [] if ask.turn is None else [{"role": "system", "content": ask.turn.system}]
            tools = [] if ask.turn is None else [{"type": "function", "function": _function(tool)} for tool in TOOLS]
            row = {
                "messages": [*system, {"role": "user", "content": ask.text}],
                "small_correct": ask.asked.weak is None,
                "large_correct": True,
                "subject": ask.kind,
            }
            rows.append(row | ({"tools": tools} if tools else {}))
        return "".join(json.dumps(row) + "\n" for row in rows)

    def _kinds(self) -> list[str]:
        mix, kinds = self._mix, self._mix.kinds
        names = ("repeated", "reworded", "agent", "retrieved")
        found = [name for name in names for _ in range(round(getattr(kinds, name) * mix.requests))]
        found += ["fresh"] * (mix.requests - len(found))
        self._random.shuffle(found)
        # Nothing can be asked again before something was asked: what comes too early changes places.
        first = found.index("fresh") if "fresh" in found else 0
        found[0], found[first] = found[first], found[0]
        return found

    def _ask(self, number: int, kind: str) -> Ask:
        asked, text, context, turn = getattr(self, f"_{kind}")()
        return Ask(number=number, kind=kind, asked=asked, text=text, context=context, turn=turn)

    def _fresh(self) -> tuple[Asked, str, tuple[str, ...], None]:
        asked = next(self._new)
        self._known.append(asked)
        self._said.append((asked, asked.wordings[0]))
        return asked, asked.wordings[0], (), None

    def _repeated(self) -> tuple[Asked, str, tuple[str, ...], None]:
        """Ask once more what was asked; what was asked early is asked most."""
        if not self._said:
            return self._fresh()
        asked, text = self._said[int(len(self._said) * self._random.random() ** 1.5)]
        return asked, text, (), None

    def _reworded(self) -> tuple[Asked, str, tuple[str, ...], None]:
        """Ask a known question in words in which nobody has asked it yet."""
        said = {text for _, text in self._said}
        left = [(asked, text) for asked in self._known for text in asked.wordings if text not in said]
        if not left:  # the file of questions is used up
            left = [
                (asked, text)
                for asked in self._known
                for frame in FRAMES
                if (text := frame.format(asked.wordings[0])) not in said
            ]
        if not left:
            return self._fresh()
        asked, text = self._random.choice(left)
        if text not in asked.wordings:
            object.__setattr__(asked, "wordings", (*asked.wordings, text))
        self._said.append((asked, text))
        return asked, text, (), None

    def _retrieved(self) -> tuple[Asked, str, tuple[str, ...], None]:
        shape, number = self._mix.retrieved, len(self._pages.made)
        code = f"K{self._random.getrandbits(40):010x}"
        at = 0
        while at < shape.chunks - 1 and self._random.random() < shape.deeper:
            at += 1
        chunks = [self._filler(f"Section {number}.{index}.", shape.tokens) for index in range(shape.chunks)]
        chunks[at] = f"{chunks[at]} See entry {code}."
        text = f"What does the handbook say about case {number} of the {self._random.choice(('mill', 'lock', 'weir'))}?"
        asked = self._pages.page((text,), hard=False, needs=(code,))
        return asked, text, tuple(chunks), None

    def _agent(self) -> tuple[Asked, str, tuple[str, ...], Turn]:
        """Go on with one of three sessions that run side by side."""
        while len(self._turns) < 3:
            self._turns.append(self._session())
        at = self._random.randrange(len(self._turns))
        if (found := next(self._turns[at], None)) is None:
            self._turns[at] = self._session()
            found = next(self._turns[at])
        asked, turn = found
        return asked, asked.wordings[0], (), turn

    def _session(self) -> Iterator[tuple[Asked, Turn]]:
        shape = self._mix.agent
        self._sessions += 1
        session = Session(f"session-{self._sessions}", self._random.random() < shape.chained)
        system = self._filler("You are an agent that works on the files of a mill.", shape.system_tokens, seed="system")
        for number in range(shape.turns):
            hard, tool = self._random.random() < shape.hard, self._random.choice((READ, SEARCH))
            text = f"Step {number + 1} of {session.name}: look at part {self._random.randrange(1000)} of the plan."
            asked = self._pages.page((text,), hard=hard)
            said = f"{text} [tool={tool}]{' [weak]' if hard else ''}"
            items: dict[str, Any] = {"role": "user", "content": said}
            yield asked, Turn(session=session, system=system, tool=tool, wants_call=True, items=(items,))
            result = self._filler(f"Part {number} of {session.name}.", shape.result_tokens)
            items = {"type": "function_call_output", "output": result}
            yield asked, Turn(session=session, system=system, tool=tool, wants_call=False, items=(items,))

    def _filler(self, opening: str, tokens: int, seed: str | None = None) -> str:
        chance = Random(self._random.random() if seed is None else seed)
        return f"{opening} {''.join(prose.tokens(chance, max(tokens - 8, 1)))}"


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tool.items() if name != "type"}
