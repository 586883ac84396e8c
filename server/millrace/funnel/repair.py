"""One more turn of a model whose answer failed a check: it is told what is wrong, and may correct it.

Only what words can mend: a declared format, the arguments of a call, and what else the table of checks says. The turn
is taken where two of them cost less than the large model's answer, so that it pays if every second one mends.
"""

import dataclasses
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from millrace import pricing, tokens
from millrace.funnel.bill import Payer
from millrace.funnel.calls import Caller, Turn, uncut
from millrace.funnel.catalog import Catalog
from millrace.funnel.checks import Candidate
from millrace.funnel.checks.form import Form
from millrace.funnel.checks.table import CHECKS
from millrace.funnel.open_charge import OpenCharge
from millrace.funnel.response_log import ResponseLog
from millrace.types import Call, Message, Model, ToolCall, Usage, Verdict

TURNS = 2  # that must cost less than the large model's answer
MOST_NAMES = 32  # of tools that are repeated to the model

_AGAIN = "Answer once more, whole and corrected. Write nothing else: no apology and no remark on the correction."
_NOT_RUN = "It was not run: another call of this turn is not right. Make all of them again."


async def repair(
    response: ResponseLog,
    charge: OpenCharge,
    candidate: Candidate,
    verdict: Verdict,
    payer: Payer,
    caller: Caller,
    catalog: Catalog,
) -> Turn | None:
    """Return the turn in which the model may correct its answer; None if it should not get one."""
    check = CHECKS.get(verdict.check or "")
    if not caller.repairs or check is None or not check.is_mendable or response.committed or candidate.has_items:
        return None
    said = _said(response, charge.model)
    words = await _words(candidate, verdict, Form(caller.checks.schemas, candidate.tenant, candidate.unchecked))
    if not words:
        return None
    prompt = response.request.prompt
    before = prompt.sent if prompt.context else prompt.messages  # the context stays with its question
    added = charge.usage.output_tokens + sum(
        tokens.count_message(word, by=charge.model.encoding.name) for word in words
    )
    turn = Turn(prompt=dataclasses.replace(prompt, messages=(*before, said, *words), context=""), tokens=added)
    return turn if _pays(turn, response, charge, payer, catalog) else None


def _pays(turn: Turn, response: ResponseLog, charge: OpenCharge, payer: Payer, catalog: Catalog) -> bool:
    """Whether the turn fits the model and the budgets, and costs so much less than the large model's answer.

    Both answers are expected to be as long as the first one. With a budget for the request the turn must leave the
    large model enough for its answer, even if it runs to its cap.
    """
    small, large = uncut(charge.model, response, turn), uncut(catalog.large, response)
    answer = charge.usage.output_tokens
    if small.most <= 2 * answer:
        return False
    costs = [_cost(small, answer), _cost(large, answer)]
    if TURNS * costs[0] > costs[1]:
        return False
    left = payer.affordable(large)
    if left is not None:
        worst = pricing.cost(pricing.worst_case(small, small.counted.input_tokens), small.dearest)
        if left * large.dearest.output / pricing.MILLION - worst < answer * large.dearest.output / pricing.MILLION:
            return False
    return payer.reserve(small)


def _cost(call: Call, output_tokens: int) -> Decimal:
    return pricing.cost(Usage(input_tokens=call.counted.input_tokens, output_tokens=output_tokens), call.price)


def _said(response: ResponseLog, model: Model) -> Message:
    """Return the answer as a message of the conversation, with what its model has signed."""
    said = response.message()
    return replace(said, sealed=tuple(dataclasses.replace(one, maker=one.maker or model.id) for one in said.sealed))


async def _words(candidate: Candidate, verdict: Verdict, form: Form) -> tuple[Message, ...]:
    """Return what is wrong, as messages to the model; none if it cannot be told."""
    if verdict.check == "tool_call" and candidate.calls:
        return await _results(candidate, form)
    faults = [fault async for fault in _faults(candidate, form)] if verdict.check == "form" else []
    what = "\n".join(f"- {fault}" for fault in faults) or f"- {verdict.reason}"
    return (Message(role="user", parts=(f"Your answer was checked and cannot be used:\n{what}\n{_AGAIN}",)),)


async def _faults(candidate: Candidate, form: Form) -> AsyncIterator[str]:
    """Yield what does not match the declared format, and the schema of the check."""
    declared: list[tuple[dict[str, Any] | None, str]] = []
    if candidate.format is not None:
        declared.append((candidate.format.schema, candidate.paths.schema))
    if candidate.schema is not None:
        declared.append((candidate.schema, candidate.paths.check_schema))
    for schema, path in declared:
        for fault in await form.faults(candidate.text, schema, path):
            yield fault


async def _results(candidate: Candidate, form: Form) -> tuple[Message, ...]:
    """Return a failed result for each call, since providers want one; of the wrong ones it says what is wrong."""
    if not all(call.id for call in candidate.calls):
        return ()
    wrong = [await _wrong(call, candidate, form) for call in candidate.calls]
    choice = candidate.tool_choice
    if choice is not None and not choice.satisfied_by({call.tool for call in candidate.calls}):
        wrong = ["It was not run: tool_choice asks for other calls."] * len(candidate.calls)
    return tuple(
        Message(role="tool", call_id=call.id, is_error=True, parts=(why or _NOT_RUN,))
        for call, why in zip(candidate.calls, wrong, strict=True)
    )


async def _wrong(call: ToolCall, candidate: Candidate, form: Form) -> str:
    """Return what is wrong with a call; empty if nothing is."""
    offered = {tool.key: (index, tool) for index, tool in reversed([*enumerate(candidate.tools)])}
    if call.tool not in offered:
        return "" if candidate.found_tools else f"It was not run: there is no tool {call.name!r}. {_known(candidate)}"
    index, tool = offered[call.tool]
    path = candidate.paths.of_tool(tool, index)
    if tool.is_custom or tool.hosted is not None or await form.fits(call, tool.parameters, path):
        return ""
    faults = await form.faults(call.arguments, tool.parameters, path) or ("they must be a JSON object",)
    return "It was not run. Its arguments are not right:\n" + "\n".join(f"- {fault}" for fault in faults)


def _known(candidate: Candidate) -> str:
    names = [tool.name for tool in candidate.tools if tool.hosted is None][:MOST_NAMES]
    return f"There are {', '.join(names)}."
