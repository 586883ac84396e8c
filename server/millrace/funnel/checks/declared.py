"""Checks of what a request declares: formats, and tools. They run off the event loop."""

from millrace.funnel.checks.candidate import Candidate
from millrace.funnel.checks.form import Form


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
