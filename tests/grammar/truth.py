"""What an answer says, whatever form a provider gives it."""

import json
from dataclasses import dataclass
from random import Random
from typing import Any

WORDS = [
    "sky",
    "röd",
    "日本",
    "😀",
    "👩\u200d🚀",
    "mill",
    "\\",
    '"',
    "{}",
    "data:",
    "stone",
    "[DONE]",
    "ναι",
    "é",
    "0",
    "</p>",
]
WORDS += ["\n", "\u2028", "e\u0301"]
TOWNS = ["Rome", "Oslo", "Köln", "東京", "Lima", "Kraków"]

TOOLS: dict[str, dict[str, Any]] = {
    "weather": {
        "type": "object",
        "properties": {"town": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["town"],
    },
    "now": {"type": "object", "properties": {}},
    "search_notes": {"type": "object", "properties": {"words": {"type": "string"}}, "required": ["words"]},
}


@dataclass(frozen=True, slots=True)
class Made:
    """A tool call."""

    name: str
    arguments: str  # JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """One answer. `finish` is stop, length, content_filter or tool_calls."""

    text: str
    reasoning: str
    calls: tuple[Made, ...]
    finish: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int  # including reasoning
    reasoning_tokens: int


def truth(random: Random, number: int) -> Truth:
    """Return a random answer. Its text begins with its number, so that a stored one can be found."""
    calls: list[Made] = []
    if random.random() < 0.4:
        calls += [Made(name, _arguments(random, name)) for name in random.sample([*TOOLS], random.randint(1, 3))]
        if random.random() < 0.3:
            calls.append(Made("search_notes", json.dumps({"words": f"once more {number}"})))
    has_text = not calls or random.random() < 0.4
    words = [random.choice(WORDS) for _ in range(random.randint(1, 12))]
    reasoning_tokens = random.choice([0, 0, random.randint(1, 500)])
    return Truth(
        text=f"n{number} " + " ".join(words) + "." if has_text else "",
        reasoning=" ".join(random.choice(WORDS) for _ in range(5)) + "!" if random.random() < 0.3 else "",
        calls=tuple(calls),
        finish="tool_calls" if calls else random.choice(["stop"] * 6 + ["length", "content_filter"]),
        input_tokens=random.randint(10, 3000),
        cached_tokens=0,
        output_tokens=reasoning_tokens + random.randint(1, 900),
        reasoning_tokens=reasoning_tokens,
    )


def _arguments(random: Random, name: str) -> str:
    match name:
        case "weather":
            return json.dumps({"town": random.choice(TOWNS), "days": random.randint(1, 9)}, ensure_ascii=False)
        case "search_notes":
            return json.dumps({"words": " ".join(random.choice(WORDS) for _ in range(4)), "in": {"a": [{}]}})
    return "{}"
