"""The checks in their order, and the verdict."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from millrace.funnel.checks import form, words
from millrace.types import Aside, Finish, FinishReason, Format, Request, Tool, ToolCall, Verdict, calls_of, refusal_of
from millrace.types.tool_choice import ToolChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An answer to be judged; `finish` is None while only its beginning has come."""

    text: str
    finish: Finish | None
    format: Format | None = None
    schema: dict[str, Any] | None = None  # in addition to the format; not sent to the model
    tools: tuple[Tool, ...] = ()  # those offered to the model
    tool_choice: ToolChoice | None = None
    calls: tuple[ToolCall, ...] = ()
    refusal: str = ""  # text that the provider marked as one

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
            calls=calls_of(asides),
            refusal=refusal_of(asides),
        )


def _empty(candidate: Candidate) -> bool:
    return not (candidate.text.strip() or candidate.calls or candidate.refusal)


def _cut_off(candidate: Candidate) -> bool:
    complete = (FinishReason.STOP, FinishReason.TOOL_CALLS)
    return candidate.finish is not None and candidate.finish.reason not in complete


def _refusal(candidate: Candidate) -> bool:
    marked = bool(candidate.refusal) or (candidate.finish is not None and candidate.finish.refused)
    return marked or (not candidate.calls and words.refuses(candidate.text))


def _unsure(candidate: Candidate) -> bool:
    """With a tool call, "I don't know, let me look it up" is not a doubt."""
    return not candidate.calls and words.is_unsure(candidate.text)


def _form(candidate: Candidate) -> bool:
    if candidate.calls:  # the answer that must have the format comes after the calls
        return False
    declared = candidate.format is not None and not form.conforms(candidate.text, candidate.format.schema)
    return declared or (candidate.schema is not None and not form.conforms(candidate.text, candidate.schema))


def _tool_call(candidate: Candidate) -> bool:
    choice, called = candidate.tool_choice, {call.name for call in candidate.calls}
    if choice is not None and not choice.satisfied_by(called):
        return True
    return not all(form.callable_with(call, candidate.tools) for call in candidate.calls)


Check = Callable[[Candidate], bool]  # True: the answer fails it

# Cheapest first. The names appear in `millrace.check` and in the ledger.
CHECKS: dict[str, Check] = {
    "empty": _empty,
    "cut_off": _cut_off,
    "refusal": _refusal,
    "unsure": _unsure,
    "form": _form,
    "tool_call": _tool_call,
}
NAMES = tuple(CHECKS)
_OF_A_BEGINNING = ("refusal", "unsure")  # the others need the complete answer


def selected(request: Request) -> tuple[str, ...]:
    """Return the names of the checks that run for a request, cheapest first: those it names, else all.

    A `check_schema` adds `form`.
    """
    if request.checks is None:
        return NAMES
    wanted = {*request.checks, *(("form",) if request.check_schema is not None else ())}
    return tuple(name for name in NAMES if name in wanted)


def judge(candidate: Candidate, names: Iterable[str] = NAMES) -> Verdict:
    """Judge a complete answer by the named checks."""
    return _first_failed(candidate, names)


def judge_beginning(candidate: Candidate, names: Iterable[str] = NAMES) -> Verdict:
    """Judge the beginning of an answer that is not complete."""
    return _first_failed(candidate, [name for name in names if name in _OF_A_BEGINNING])


def _first_failed(candidate: Candidate, names: Iterable[str]) -> Verdict:
    return Verdict(check=next((name for name in names if CHECKS[name](candidate)), None))
