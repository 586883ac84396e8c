"""Checks that need nothing but the answer and how it ended."""

from millrace.funnel.checks import words
from millrace.funnel.checks.candidate import Candidate
from millrace.types import FinishReason

_COMPLETE = (FinishReason.STOP, FinishReason.TOOL_CALLS)


def empty(candidate: Candidate) -> str:
    """Say whether there is nothing: no text, no call, no refusal, no item of a hosted tool."""
    has_any = candidate.text.strip() or candidate.calls or candidate.refusal or candidate.has_items
    return "" if has_any else "the answer is empty"


def cut_off(candidate: Candidate) -> str:
    """Say whether the provider stopped the model before its end."""
    finish = candidate.finish
    return "" if finish is None or finish.reason in _COMPLETE else f"the provider ended it: {finish.reason}"


def refusal(candidate: Candidate) -> str:
    """Say whether the answer is a refusal."""
    if candidate.refusal or (candidate.finish is not None and candidate.finish.refused):
        return "the provider marked it as a refusal"
    refuses = words.refuses(candidate.text, is_whole=candidate.finish is not None)
    return "it refuses" if not candidate.calls and refuses else ""


def unsure(candidate: Candidate) -> str:
    """Say whether the answer does not know. With a tool call, "I don't know, let me look it up" is not a doubt."""
    is_unsure = words.is_unsure(candidate.text, is_whole=candidate.finish is not None)
    return "it says that it does not know" if not candidate.calls and is_unsure else ""
