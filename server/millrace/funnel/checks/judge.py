"""The order of the checks, and the verdict."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from millrace.funnel.checks import form, words
from millrace.types import Aside, Finish, FinishReason, Format, Request, Tool, ToolCall, Verdict, calls_of, refusal_of
from millrace.types.tool_choice import ToolChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An answer to be judged; `finish` is None while only its beginning is known."""

    text: str
    finish: Finish | None
    format: Format | None = None
    schema: dict[str, Any] | None = None  # beside the format; no model was told of it
    tools: tuple[Tool, ...] = ()  # that were offered
    tool_choice: ToolChoice | None = None
    calls: tuple[ToolCall, ...] = ()
    refusal: str = ""  # what the provider marked as one

    @classmethod
    def of(cls, request: Request, text: str, asides: Sequence[Aside], finish: Finish | None) -> Self:
        """Return what a model has said to a request."""
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
    whole = (FinishReason.STOP, FinishReason.TOOL_CALLS)
    return candidate.finish is not None and candidate.finish.reason not in whole


def _refusal(candidate: Candidate) -> bool:
    marked = bool(candidate.refusal) or (candidate.finish is not None and candidate.finish.refused)
    return marked or (not candidate.calls and words.refuses(candidate.text))


def _unsure(candidate: Candidate) -> bool:
    """With a call at hand, "I don't know, let me look" is no doubt."""
    return not candidate.calls and words.is_unsure(candidate.text)


def _form(candidate: Candidate) -> bool:
    if candidate.calls:  # the answer proper is still to come, and its form with it
        return False
    declared = candidate.format is not None and not form.holds(candidate.text, candidate.format.schema)
    return declared or (candidate.schema is not None and not form.holds(candidate.text, candidate.schema))


def _tool_call(candidate: Candidate) -> bool:
    choice, called = candidate.tool_choice, {call.name for call in candidate.calls}
    if choice is not None and not choice.satisfied_by(called):
        return True
    return not all(form.callable_with(call, candidate.tools) for call in candidate.calls)


Check = Callable[[Candidate], bool]  # True: the answer fails it

# Cheapest first; the name is what `millrace.check` and the ledger say.
CHECKS: dict[str, Check] = {
    "empty": _empty,
    "cut_off": _cut_off,
    "refusal": _refusal,
    "unsure": _unsure,
    "form": _form,
    "tool_call": _tool_call,
}
NAMES = tuple(CHECKS)
_OF_A_BEGINNING = ("refusal", "unsure")  # a beginning can be neither empty nor whole


def asked(request: Request) -> tuple[str, ...]:
    """Return the names of the checks that run for a request, cheapest first: those it names, else all.

    Whoever brings a schema wants it looked at, so `form` is then among them.
    """
    if request.checks is None:
        return NAMES
    wanted = {*request.checks, *(("form",) if request.check_schema is not None else ())}
    return tuple(name for name in NAMES if name in wanted)


def judge(candidate: Candidate, names: Iterable[str] = NAMES) -> Verdict:
    """Judge a whole answer by the checks of these names."""
    return _first_failed(candidate, names)


def judge_beginning(candidate: Candidate, names: Iterable[str] = NAMES) -> Verdict:
    """Judge the first words of an answer that is still coming."""
    return _first_failed(candidate, [name for name in names if name in _OF_A_BEGINNING])


def _first_failed(candidate: Candidate, names: Iterable[str]) -> Verdict:
    return Verdict(check=next((name for name in names if CHECKS[name](candidate)), None))
