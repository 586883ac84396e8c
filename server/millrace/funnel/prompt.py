"""Trimming: chunks of context and history are cut to a token budget; system prompt and question never are.

The order of what is left serves providers' prefix caches: system prompt, history, and last the question with the
context that belongs to it, for that changes with every request.
"""

from dataclasses import dataclass, replace
from itertools import accumulate, takewhile

from millrace import tokens
from millrace.errors import MillraceError
from millrace.types import Message, Prompt

HEADING = "Context, most relevant first:"
GAP = "\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """A prompt as it will be sent, and what was cut from it."""

    prompt: Prompt
    input_tokens: int
    cut_tokens: int


def trim(prompt: Prompt, context: tuple[str, ...], budget: int | None, limit: int) -> Trimmed:
    """Fit a prompt into `limit` tokens, and its context and history together into `budget` of them.

    Context first, as much as fits, most relevant first; then the newest turns. A turn is a user's message and all that
    followed it, so a tool call is never parted from its result; the last one is the question, and never cut.
    Raises `context_too_long` where nothing is left to cut.
    """
    messages = prompt.messages
    *turns, question = _turns(messages) or [[]]
    system = [at for at, message in enumerate(messages) if message.role == "system"]
    fixed = [*system, *question]
    spent = _count(messages, fixed) + tokens.count_tools(prompt.tools)
    if spent > limit:
        named = (
            "the system prompt, the tools and the question" if prompt.tools else "the system prompt and the question"
        )
        message = f"input: {named} have {spent} tokens; the models take {limit}"
        raise MillraceError("context_too_long", message, param="input")
    left = limit - spent if budget is None else min(budget, limit - spent)
    kept_chunks = _fitting(context, left)
    block = _joined(context[:kept_chunks]) if kept_chunks else ""
    kept = _newest(messages, turns, left - tokens.count(block))
    shown = sorted({*fixed, *(at for turn in kept for at in turn)})
    lost = [at for turn in turns[: len(turns) - len(kept)] for at in turn]
    result = replace(prompt, messages=tuple(messages[at] for at in shown), context=block)
    return Trimmed(
        prompt=result,
        input_tokens=tokens.count_prompt(result) if block or turns else spent,
        cut_tokens=_count(messages, lost) + sum(map(tokens.count, context[kept_chunks:])),
    )


def _fitting(context: tuple[str, ...], budget: int) -> int:
    """Return how many chunks fit, from the first; joined texts may count a little more or less than their sum."""
    totals = accumulate(tokens.count(chunk) + 1 for chunk in context)
    fits = sum(1 for _ in takewhile(lambda total: total <= budget, totals))
    while fits and tokens.count(_joined(context[:fits])) > budget:
        fits -= 1
    return fits


def _joined(chunks: tuple[str, ...]) -> str:
    return GAP.join((HEADING, *chunks)) + GAP


def _turns(messages: tuple[Message, ...]) -> list[list[int]]:
    """Group the indices of all but system messages, oldest turn first; no turn ends before its calls' results."""
    results = {message.call_id: at for at, message in enumerate(messages) if message.role == "tool"}
    turns: list[list[int]] = []
    due = -1  # where the last result of the calls so far stands
    for at, message in enumerate(messages):
        if message.role == "system":
            continue
        if not turns or (message.role == "user" and due < at):
            turns.append([])
        turns[-1].append(at)
        due = max([due, *(results.get(call.id, -1) for call in message.calls)])
    return turns


def _newest(messages: tuple[Message, ...], turns: list[list[int]], budget: int) -> list[list[int]]:
    kept: list[list[int]] = []
    for turn in reversed(turns):
        budget -= _count(messages, turn)
        if budget < 0:
            break
        kept.append(turn)
    return kept


def _count(messages: tuple[Message, ...], indices: list[int]) -> int:
    return sum(tokens.count_message(messages[at]) for at in indices)
