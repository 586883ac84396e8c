"""How much a model thinks: from the effort that a client of another API asks for, or as one of this API says it.

No I/O.
"""

from typing import Any

from millrace.types import Api, Prompt
from millrace.upstreams.quirks import Quirks, Thinking

LEAST_BUDGET = 1024  # tokens; the API refuses less
_BUDGETS = {"low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 65_536}
_EFFORTS = {"none": "low", "minimal": "low"}  # names that the API does not have
_NOT_BESIDE = ("temperature", "top_p", "top_k")  # a model that thinks takes none of these


def thinking_of(fields: dict[str, Any], prompt: Prompt, quirks: Quirks) -> list[str]:
    """Add to a body how much its model thinks; return notes on what is left out for that.

    Who speaks this API says in words of its own whether the model thinks, and is not corrected. Others only name an
    effort.
    """
    effort = prompt.reasoning_effort
    if effort is None:
        return []
    config = {} if "effort" in quirks.drop else {"effort": _EFFORTS.get(effort, effort)}
    if config:
        fields["output_config"] = config | fields.get("output_config", {})
    is_native = prompt.native is not None and prompt.native.api is Api.MESSAGES
    if is_native or effort == "none" or "thinking" in fields:
        return []
    if (fields.get("tool_choice") or {}).get("type") in ("any", "tool"):
        return ["without thinking: a tool must be called"]
    if quirks.thinking is Thinking.ADAPTIVE:
        fields["thinking"] = {"type": "adaptive", "display": "summarized"}
    else:
        budget = min(_BUDGETS.get(effort, LEAST_BUDGET), fields["max_tokens"] - 1)
        if budget < LEAST_BUDGET:
            return ["without thinking: max_tokens leaves no room for it"]
        if _begins_with_a_call(fields["messages"]):
            return ["without thinking: the last answer has none that could be continued"]
        fields["thinking"] = {"type": "enabled", "budget_tokens": budget}
    left_out = [name for name in _NOT_BESIDE if name in fields]
    for name in left_out:
        del fields[name]
    return [f"without {name}: the model thinks" for name in left_out]


def _begins_with_a_call(turns: list[dict[str, Any]]) -> bool:
    """Whether the model is to go on after a call in front of which it has not thought."""
    answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    blocks = answers[-1] if answers else []
    has_call = any(block.get("type") == "tool_use" for block in blocks)
    return has_call and blocks[0].get("type") not in ("thinking", "redacted_thinking")
