"""Checks of what a request declares: formats, a pattern, citations and tools."""

import re

import msgspec

from millrace.funnel.checks.candidate import Candidate
from millrace.funnel.checks.form import Form, pattern_schema


async def form(candidate: Candidate, applied: Form) -> str:
    """Say whether an answer breaks a declared format. An answer that calls comes before the one that must have it."""
    text, paths = candidate.text, candidate.paths
    if candidate.calls or (candidate.has_items and not text):
        return ""
    if candidate.format is not None and not await applied.conforms(text, candidate.format.schema, paths.schema):
        return "it does not match the declared format"
    if candidate.schema is not None and not await applied.conforms(text, candidate.schema, paths.check_schema):
        return "it does not match the schema of the check"
    return ""


async def tool_call(candidate: Candidate, applied: Form) -> str:
    """Say whether the calls are not those that were offered or asked for, or their arguments do not fit."""
    choice, called = candidate.tool_choice, {call.tool for call in candidate.calls}
    if choice is not None and not choice.satisfied_by(called):
        return "it does not call what tool_choice asks for"
    offered = {tool.key: (index, tool) for index, tool in reversed([*enumerate(candidate.tools)])}
    for call in candidate.calls:
        if call.tool not in offered:
            if candidate.found_tools:
                continue
            return "it calls a tool that was not offered"
        index, tool = offered[call.tool]
        if tool.is_custom or tool.hosted is not None:  # any text will do
            continue
        if not await applied.fits(call, tool.parameters, candidate.paths.of_tool(tool, index)):
            return "the arguments of a call do not match its schema"
    return ""


async def pattern(candidate: Candidate, applied: Form) -> str:
    """Say whether no part of the text matches the pattern of the request. It is applied like that of a schema."""
    if candidate.pattern is None or candidate.calls or (candidate.has_items and not candidate.text):
        return ""
    text = msgspec.json.encode(candidate.text).decode()
    conforms = await applied.conforms(text, pattern_schema(candidate.pattern), candidate.paths.check_pattern)
    return "" if conforms else "it does not match the pattern of the request"


_MARK = re.compile(r"\[\^?((?:\d{1,3}|[\w.:/-]{1,64})(?:\s*[,;]\s*(?:\d{1,3}|[\w.:/-]{1,64}))*)\](?!\()")
_QUOTED = re.compile(r"[\"“„«]([^\"”“»]{20,400})[\"”“»]")


def citations(candidate: Candidate) -> str:
    """Say whether the answer cites nothing of its context, or something that the context does not have.

    A chunk is cited by its place, such as [2], by a name that it has in brackets, or by words of it in quotes.
    """
    context = candidate.context
    if not context or not candidate.text.strip() or candidate.calls:
        return ""
    chunks = context.count("\n\n")
    names = {name.strip() for marks in _MARK.findall(context) for name in re.split("[,;]", marks)}
    cited = [name.strip() for marks in _MARK.findall(candidate.text) for name in re.split("[,;]", marks)]
    for name in cited:
        if name.isdigit() and not (1 <= int(name) <= chunks or name in names):
            return "it cites what the context does not have"
    has_any = any(name.isdigit() or name in names for name in cited)
    if has_any or any(quoted in context for quoted in _QUOTED.findall(candidate.text)):
        return ""
    return "it cites nothing of its context"
