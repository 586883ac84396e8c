"""How much a model of the Messages API thinks: from the effort that clients of other APIs name."""

from typing import Any

import pytest
from msgspec.structs import replace

from millrace.types import Message
from millrace.types.tool_choice import ToolChoice
from millrace.upstreams.quirks import Quirks, Thinking
from tests.support.messages_wire import thinking
from tests.upstreams.messages.test_body import ASKED, CALLED, WEATHER, sealed, sent

EFFORTS: list[tuple[str, dict[str, Any], Any, str, list[str]]] = [
    ("high", {}, {"type": "adaptive", "display": "summarized"}, "high", []),
    ("minimal", {}, {"type": "adaptive", "display": "summarized"}, "low", []),
    ("none", {}, None, "low", []),
    ("high", {"quirks": Quirks(thinking=Thinking.BUDGET)}, {"type": "enabled", "budget_tokens": 16_384}, "high", []),
    (
        "high",
        {"quirks": Quirks(thinking=Thinking.BUDGET), "max_output_tokens": 2000},
        {"type": "enabled", "budget_tokens": 1999},
        "high",
        [],
    ),
    (
        "high",
        {"quirks": Quirks(thinking=Thinking.BUDGET), "max_output_tokens": 500},
        None,
        "high",
        ["without thinking: max_tokens leaves no room for it"],
    ),
    (
        "low",
        {"tools": (WEATHER,), "tool_choice": ToolChoice("required")},
        None,
        "low",
        ["without thinking: a tool must be called"],
    ),
    (
        "low",
        {"temperature": 0.2, "top_p": 0.9},
        {"type": "adaptive", "display": "summarized"},
        "low",
        ["without temperature: the model thinks", "without top_p: the model thinks"],
    ),
]


@pytest.mark.parametrize(("effort", "prompt", "thinks", "told", "notes"), EFFORTS)
def test_thinking_from_an_effort(effort: str, prompt: dict[str, Any], thinks: Any, told: str, notes: list[str]) -> None:
    """In the words that the model takes, and not where the API refuses it."""
    fields, said = sent(reasoning_effort=effort, **prompt)
    assert fields.get("thinking") == thinks
    assert fields["output_config"] == {"effort": told}
    assert said == notes


def test_a_budget_of_thinking_needs_a_thought_to_go_on_from() -> None:
    """The API refuses it after a call that another model has made."""
    result = Message(role="tool", parts=("21",), call_id="toolu_1")
    budget = Quirks(thinking=Thinking.BUDGET)
    fields, notes = sent(ASKED, CALLED, result, tools=(WEATHER,), reasoning_effort="low", quirks=budget)
    assert "thinking" not in fields
    assert notes == ["without thinking: the last answer has none that could be continued"]
    thought = replace(CALLED, sealed=(sealed(thinking("Hm.")),))
    fields, _ = sent(ASKED, thought, result, tools=(WEATHER,), reasoning_effort="low", quirks=budget)
    assert fields["thinking"] == {"type": "enabled", "budget_tokens": 2048}
