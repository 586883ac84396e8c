"""The checks in their order, and the verdict."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from millrace.funnel.checks import words
from millrace.funnel.checks.form import Form
from millrace.ports import SchemaValidator
from millrace.types import (
    RESPONSES_PATHS,
    Aside,
    Finish,
    FinishReason,
    Format,
    Paths,
    Request,
    Sealed,
    Tool,
    ToolCall,
    Verdict,
    calls_of,
    refusal_of,
)
from millrace.types.tool_choice import ToolChoice

TOOLS_FOUND = "tool_search_output"  # the type of an item that has tools


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An answer to be judged; `finish` is None while only its beginning has come."""

    text: str
    finish: Finish | None
    format: Format | None = None
    schema: dict[str, Any] | None = None  # in addition to the format; not sent to the model
    tools: tuple[Tool, ...] = ()  # those offered to the model
    tool_choice: ToolChoice | None = None
    has_items: bool = False  # of hosted tools: of what the provider did, or wants done
    found_tools: bool = False  # the model has searched for tools, and may call what it found
    calls: tuple[ToolCall, ...] = ()
    refusal: str = ""  # text that the provider marked as one
    unchecked: tuple[str, ...] = ()  # paths of schemas, or of patterns in them, that are not applied
    paths: Paths = RESPONSES_PATHS
    tenant: str = ""

    @classmethod
    def of(cls, request: Request, text: str, asides: Sequence[Aside], finish: Finish | None) -> Self:
        """Return the candidate for what a model has sent so far."""
        return cls(
            text=text,
            finish=finish,
            format=request.prompt.format,
            schema=request.check_schema,
            tools=request.prompt.tools,
            tool_choice=request.prompt.tool_choice,
            has_items=any(isinstance(aside, Sealed) and not aside.is_thought for aside in asides),
            found_tools=_found_tools(request, asides),
            calls=calls_of(asides),
            refusal=refusal_of(asides),
            unchecked=request.unchecked,
            paths=request.paths,
            tenant=request.tenant,
        )


def _found_tools(request: Request, asides: Sequence[Aside]) -> bool:
    if not any(tool.hosted is not None for tool in request.prompt.tools):
        return False
    before = (one for message in request.prompt.messages for one in message.sealed)
    sealed = (*before, *(aside for aside in asides if isinstance(aside, Sealed)))
    return any(one.kind == TOOLS_FOUND for one in sealed)


def _empty(candidate: Candidate) -> bool:
    return not (candidate.text.strip() or candidate.calls or candidate.refusal or candidate.has_items)


def _cut_off(candidate: Candidate) -> bool:
    complete = (FinishReason.STOP, FinishReason.TOOL_CALLS)
    return candidate.finish is not None and candidate.finish.reason not in complete


def _refusal(candidate: Candidate) -> bool:
    marked = bool(candidate.refusal) or (candidate.finish is not None and candidate.finish.refused)
    return marked or (not candidate.calls and words.refuses(candidate.text))


def _unsure(candidate: Candidate) -> bool:
    """With a tool call, "I don't know, let me look it up" is not a doubt."""
    return not candidate.calls and words.is_unsure(candidate.text)


async def _form(candidate: Candidate, form: Form) -> bool:
    text, paths = candidate.text, candidate.paths
    if candidate.calls or (candidate.has_items and not text):  # the answer that must have the format comes after these
        return False
    if candidate.format is not None and not await form.conforms(text, candidate.format.schema, paths.schema):
        return True
    return candidate.schema is not None and not await form.conforms(text, candidate.schema, paths.check_schema)


async def _tool_call(candidate: Candidate, form: Form) -> bool:
    choice, called = candidate.tool_choice, {call.tool for call in candidate.calls}
    if choice is not None and not choice.satisfied_by(called):
        return True
    offered = {tool.key: (index, tool) for index, tool in reversed([*enumerate(candidate.tools)])}
    for call in candidate.calls:
        if call.tool not in offered:
            if candidate.found_tools:
                continue
            return True
        index, tool = offered[call.tool]
        if tool.is_custom or tool.hosted is not None:  # any text will do
            continue
        if not await form.fits(call, tool.parameters, candidate.paths.of_tool(tool, index)):
            return True
    return False


Check = Callable[[Candidate], bool]  # True: the answer fails it
FormCheck = Callable[[Candidate, Form], Awaitable[bool]]  # the same, of schemas

# Cheapest first. The names appear in `millrace.check` and in the ledger.
CHECKS: dict[str, Check] = {"empty": _empty, "cut_off": _cut_off, "refusal": _refusal, "unsure": _unsure}
FORM_CHECKS: dict[str, FormCheck] = {"form": _form, "tool_call": _tool_call}
NAMES = (*CHECKS, *FORM_CHECKS)
_OF_A_BEGINNING = ("refusal", "unsure")  # the others need the complete answer


def selected(request: Request) -> tuple[str, ...]:
    """Return the names of the checks that run for a request, cheapest first: those it names, else all.

    A `check_schema` adds `form`.
    """
    if request.checks is None:
        return NAMES
    wanted = {*request.checks, *(("form",) if request.check_schema is not None else ())}
    return tuple(name for name in NAMES if name in wanted)


async def judge(candidate: Candidate, schemas: SchemaValidator, names: Iterable[str] = NAMES) -> Verdict:
    """Judge a complete answer by the named checks."""
    form = Form(schemas, candidate.tenant, candidate.unchecked)
    for name in names:
        if name in CHECKS:
            fails = CHECKS[name](candidate)
        else:
            fails = await FORM_CHECKS[name](candidate, form)
        if fails:
            return Verdict(check=name)
    return Verdict()


def judge_beginning(candidate: Candidate, names: Iterable[str] = NAMES) -> Verdict:
    """Judge the beginning of an answer that is not complete."""
    failed = (name for name in names if name in _OF_A_BEGINNING and CHECKS[name](candidate))
    return Verdict(check=next(failed, None))
