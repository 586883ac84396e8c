"""Marks for the provider's cache, where the client has set none: what the next request is likely to begin with, too.

A request is read from the cache up to a mark whose prefix has been marked before: tools, then the system prompt, then
the turns. No I/O.
"""

from typing import Any

from millrace.types import CACHE_CONTROL

MARK = {"type": "ephemeral"}
_UNMARKED = ("thinking", "redacted_thinking")  # blocks that take no mark
_AFTER_ANSWERS = 2  # ends of a user's turn that are marked: the last, and the one that was the last before


def mark(fields: dict[str, Any], *, is_last_stable: bool) -> None:
    """Mark the ends of the tools, of the system prompt, and of the last two turns of a user; at most four.

    A conversation that has only begun is not marked beyond the system prompt, unless it has tools: nobody may go on
    with it. `is_last_stable`: the last turn comes again as it is, if the conversation goes on.
    """
    if has_marks(fields):
        return
    tools = [tool for tool in fields.get("tools", ()) if not tool.get("defer_loading")]  # those are not in the prefix
    ends: list[dict[str, Any]] = [blocks[-1] for blocks in (tools, fields.get("system")) if blocks]
    turns = fields["messages"]
    goes_on = bool(fields.get("tools")) or any(turn["role"] == "assistant" for turn in turns)
    of_users = [turn["content"][-1] for turn in turns if turn["role"] == "user"] if goes_on else []
    ends += (of_users if is_last_stable else of_users[:-1])[-_AFTER_ANSWERS:]
    for block in ends:
        if block.get("type") not in _UNMARKED:
            block[CACHE_CONTROL] = MARK


def has_marks(fields: dict[str, Any]) -> bool:
    """Whether a client has set a mark anywhere, also the one at the top, which stands for all."""
    if fields.get(CACHE_CONTROL):
        return True
    blocks = [*fields.get("tools", ()), *fields.get("system", ())]
    blocks += [block for turn in fields["messages"] for block in turn["content"]]
    blocks += [block for outer in blocks for block in _within(outer)]
    return any(CACHE_CONTROL in block for block in blocks)


def without_marks(value: Any) -> Any:
    """Return a body, or a part of one, without any mark."""
    if isinstance(value, dict):
        return {name: without_marks(inner) for name, inner in value.items() if name != CACHE_CONTROL}
    return [*map(without_marks, value)] if isinstance(value, list) else value


def _within(block: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the blocks within the result of a tool."""
    content = block.get("content")
    return [inner for inner in content if isinstance(inner, dict)] if isinstance(content, list) else []
