"""Trimming: context chunks and history are cut to a token budget; the system prompt and the question never are.

What remains is ordered for the prefix caches of providers: system prompt, history, then context and question, which
change with every request.
"""

from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, takewhile

from millrace import log, tokens
from millrace.errors import MillraceError
from millrace.funnel.fingerprint import digest_of_chunks, digest_of_messages
from millrace.funnel.offload import in_thread_if_long
from millrace.funnel.prefixes import steady
from millrace.types import Message, Prompt, Request

HEADING = "Context, most relevant first:"
GAP = "\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """A trimmed prompt, and how much was cut from it."""

    prompt: Prompt
    input_tokens: int
    cut_tokens: int
    cut_history: bytes  # SHA-256 of the messages that were cut; empty if none were
    cut_context: bytes  # SHA-256 of the chunks that were cut; empty if none were


async def trimmed(request: Request, prompt: Prompt, budget: int | None, limit: int) -> Request:
    """Return a request with its prompt trimmed, off the loop if it is long. Raises what `trim` raises."""
    work = partial(trim, prompt, request.context, budget, limit, request.paths.input)
    result = await in_thread_if_long(request.tenant, sum(map(len, request.context)) + prompt.size, work)
    if result.cut_tokens:
        log.get().info("trimmed", id=request.id, cut_tokens=result.cut_tokens, budget=budget)
    return replace(
        request,
        prompt=result.prompt,
        context=(),
        input_tokens=result.input_tokens,
        trimmed_tokens=result.cut_tokens,
        cut_history=result.cut_history,
        cut_context=result.cut_context,
    )


def trim(prompt: Prompt, context: tuple[str, ...], budget: int | None, limit: int, path: str = "input") -> Trimmed:
    """Fit a prompt into `limit` tokens, and its context and history together into `budget` of them.

    Context chunks go in first, the most relevant ones, as many as fit; then the newest turns. A turn is a user's
    message and all that follows it, so a tool call is never separated from its result. The last turn is the question.
    Where turns are cut, up to about a quarter of the budget more is cut than must be: so the next requests can begin
    with the same turn, which the provider has in its cache.
    Raises `context_too_long`, for the field at `path`, if the rest alone is too long.
    """
    messages = prompt.messages
    *turns, question = _turns(messages) or [[]]
    system = [at for at, message in enumerate(messages) if message.role == "system"]
    fixed = [*system, *question]
    fixed_tokens = tokens.count_tools(prompt.tools)
    for at in fixed:
        if fixed_tokens > limit:  # a megabyte more need not be counted
            break
        fixed_tokens += tokens.count_message(messages[at], limit - fixed_tokens)
    if fixed_tokens > limit:
        subject = (
            "the system prompt, the tools and the question" if prompt.tools else "the system prompt and the question"
        )
        message = f"{path}: {subject} have at least {fixed_tokens} tokens; the models take {limit}; shorten them"
        raise MillraceError("context_too_long", message, param=path)
    if not (turns or context or prompt.context):  # most requests
        return Trimmed(prompt=prompt, input_tokens=fixed_tokens, cut_tokens=0, cut_history=b"", cut_context=b"")
    left = limit - fixed_tokens if budget is None else min(budget, limit - fixed_tokens)
    kept_chunks = _fitting(context, left)
    block = _block(context[:kept_chunks]) if kept_chunks else ""
    room = left - tokens.count(block)
    newest = _newest(messages, turns, room)
    first = len(turns) - len(newest) + 1  # that fits
    if first:
        sizes = [sum(messages[at].size for at in turn) for turn in turns]
        first = steady(sizes, first, min(limit if budget is None else budget, 2 * room))
    kept, kept_tokens = turns[first:], newest[len(turns) - first]
    sent = sorted({*fixed, *(at for turn in kept for at in turn)})
    cut = [at for turn in turns[:first] for at in turn]
    result = prompt
    if cut or block or prompt.context:
        result = replace(prompt, messages=tuple(messages[at] for at in sent), context=block)
    return Trimmed(
        prompt=result,
        input_tokens=tokens.count_prompt(result) if block else fixed_tokens + kept_tokens,
        cut_tokens=_count(messages, cut) + sum(map(tokens.count, context[kept_chunks:])),
        cut_history=digest_of_messages([messages[at] for at in cut]),
        cut_context=digest_of_chunks(context[kept_chunks:]),
    )


def _fitting(context: tuple[str, ...], budget: int) -> int:
    """Return how many chunks fit, counted from the first. Joined, they may have more tokens than their sum."""
    totals = accumulate(tokens.count(chunk) + 1 for chunk in context)
    fits = sum(1 for _ in takewhile(lambda total: total <= budget, totals))
    while fits and tokens.count(_block(context[:fits])) > budget:
        fits -= 1
    return fits


def _block(chunks: tuple[str, ...]) -> str:
    return GAP.join((HEADING, *chunks)) + GAP


def _turns(messages: tuple[Message, ...]) -> list[list[int]]:
    """Return the indices of the messages of each turn, oldest first, without system messages.

    A turn never ends before the results of its tool calls.
    """
    results = {message.call_id: at for at, message in enumerate(messages) if message.role == "tool"}
    turns: list[list[int]] = []
    last_result = -1  # index of the last result of the calls so far
    for at, message in enumerate(messages):
        if message.role == "system":
            continue
        if not turns or (message.role == "user" and last_result < at):
            turns.append([])
        turns[-1].append(at)
        for call in message.calls:
            last_result = max(last_result, results.get(call.id, -1))
    return turns


def _newest(messages: tuple[Message, ...], turns: list[list[int]], budget: int) -> list[int]:
    """Return the tokens of no turn, of the newest one, of the two newest ones, and so on: of as many as fit."""
    sums = [0]
    for turn in reversed(turns):
        counted = _count(messages, turn)
        if sums[-1] + counted > budget:
            break
        sums.append(sums[-1] + counted)
    return sums


def _count(messages: tuple[Message, ...], indices: list[int]) -> int:
    return sum(tokens.count_message(messages[at]) for at in indices)
