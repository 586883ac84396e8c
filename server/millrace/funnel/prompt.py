"""Trimming: context chunks and history are cut to a token budget; the system prompt and the question never are.

What remains is ordered for the prefix caches of providers: system prompt, history, then context and question, which
change with every request.
"""

import dataclasses
import math
from collections.abc import Sequence
from itertools import accumulate, takewhile

from msgspec import Struct
from msgspec.structs import replace

from millrace import log, tokens
from millrace.errors import MillraceError
from millrace.funnel.catalog import Catalog, Ruler
from millrace.funnel.fingerprint import digest_of_chunks, digest_of_messages
from millrace.funnel.offload import in_thread_if_long
from millrace.funnel.prefixes import steady
from millrace.types import Message, Prompt, Request

HEADING = "Context, most relevant first:"
GAP = "\n\n"
COUNTED = 2  # times the limit; what is longer is not counted to its end


class Trimmed(Struct, frozen=True, kw_only=True):
    """A trimmed prompt, and how much was cut from it."""

    prompt: Prompt
    counted: dict[str, int]  # its tokens in each encoding
    cut_tokens: int  # in the first one
    cut_history: bytes  # SHA-256 of the messages that were cut; empty if none were
    cut_context: bytes  # SHA-256 of the chunks that were cut; empty if none were


async def trimmed(request: Request, prompt: Prompt, budget: int | None, catalog: Catalog) -> Request:
    """Return a request with its prompt trimmed, off the loop if it is long. Raises what `trim` raises."""
    rulers = catalog.rulers(request.strategy)

    def work() -> Trimmed:
        with tokens.known_to(request.tenant):
            return trim(prompt, request.context, budget, rulers, request.paths.input)

    result = await in_thread_if_long(request.tenant, sum(map(len, request.context)) + prompt.size, work)
    if result.cut_tokens:
        log.get().info("trimmed", id=request.id, cut_tokens=result.cut_tokens, budget=budget)
    counts = catalog.counts(result.counted)
    return replace(
        request,
        prompt=result.prompt,
        context=(),
        input_tokens=counts[catalog.large.name].input_tokens,
        counts=counts,
        trimmed_tokens=math.ceil(result.cut_tokens * counts[catalog.large.name].ratio),
        cut_history=result.cut_history,
        cut_context=result.cut_context,
    )


def trim(
    prompt: Prompt, context: tuple[str, ...], budget: int | None, rulers: Sequence[Ruler], path: str = "input"
) -> Trimmed:
    """Fit a prompt into the limit of each ruler, and its context and history together into `budget` of the first.

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
    counted = {ruler.encoding: _fixed(prompt, fixed, ruler, path) for ruler in rulers}
    if not (turns or context or prompt.context):  # most requests
        return Trimmed(prompt=prompt, counted=counted, cut_tokens=0, cut_history=b"", cut_context=b"")
    first, encodings = rulers[0].encoding, [*counted]
    left: list[float] = [ruler.limit - counted[ruler.encoding] for ruler in rulers]
    left[0] = left[0] if budget is None else min(budget, left[0])
    kept_chunks = min(_fitting(context, room, by) for room, by in zip(left, encodings, strict=True))
    block = _block(context[:kept_chunks]) if kept_chunks else ""
    rooms = [room - tokens.count(block, by=by) for room, by in zip(left, encodings, strict=True)]
    newest = [_newest(messages, turns, room, by) for room, by in zip(rooms, encodings, strict=True)]
    begin = len(turns) - min(map(len, newest)) + 1  # that fits
    if begin:
        sizes = [sum(messages[at].size for at in turn) for turn in turns]
        most = min(ruler.limit for ruler in rulers) if budget is None else budget
        begin = steady(sizes, begin, int(min(most, *(2 * room for room in rooms))))
    kept_turns = len(turns) - begin
    sent = sorted({*fixed, *(at for turn in turns[begin:] for at in turn)})
    cut = [at for turn in turns[:begin] for at in turn]
    result = prompt
    if cut or block or prompt.context:
        result = dataclasses.replace(prompt, messages=tuple(messages[at] for at in sent), context=block)
    return Trimmed(
        prompt=result,
        counted={
            by: tokens.count_prompt(result, by=by) if block else counted[by] + sums[kept_turns]
            for by, sums in zip(encodings, newest, strict=True)
        },
        cut_tokens=_count(messages, cut, first) + sum(tokens.count(chunk, by=first) for chunk in context[kept_chunks:]),
        cut_history=digest_of_messages([messages[at] for at in cut]),
        cut_context=digest_of_chunks(context[kept_chunks:]),
    )


def _fixed(prompt: Prompt, fixed: list[int], ruler: Ruler, path: str) -> int:
    """Return the tokens of what cannot be cut. Raises `context_too_long`.

    What is much too long is not counted to its end.
    """
    by, most = ruler.encoding, COUNTED * ruler.limit
    counted, is_whole = tokens.count_fixed(prompt, by=by), True
    for at in fixed:
        if counted > most:
            is_whole = False
            break
        counted += tokens.count_message(prompt.messages[at], most - counted, by=by)
    if counted <= ruler.limit:
        return counted
    subject = "the system prompt, the tools and the question" if prompt.tools else "the system prompt and the question"
    number = f"{counted}" if is_whole and counted <= most else f"at least {counted}"
    message = f"{path}: {subject} have {number} tokens in {by}; {ruler.takes()}; shorten them"
    raise MillraceError("context_too_long", message, param=path)


def _fitting(context: tuple[str, ...], budget: float, by: str) -> int:
    """Return how many chunks fit, counted from the first. Joined, they may have more tokens than their sum."""
    totals = accumulate(tokens.count(chunk, by=by) + 1 for chunk in context)
    fits = sum(1 for _ in takewhile(lambda total: total <= budget, totals))
    while fits and tokens.count(_block(context[:fits]), by=by) > budget:
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


def _newest(messages: tuple[Message, ...], turns: list[list[int]], budget: float, by: str) -> list[int]:
    """Return the tokens of no turn, of the newest, of the two newest, and so on, as far as they fit."""
    sums = [0]
    for turn in reversed(turns):
        total = sums[-1] + _count(messages, turn, by)
        if total > budget:
            break
        sums.append(total)
    return sums


def _count(messages: tuple[Message, ...], indices: list[int], by: str) -> int:
    return sum(tokens.count_message(messages[at], by=by) for at in indices)
