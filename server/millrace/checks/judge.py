"""The order of the checks, and the verdict."""

from collections.abc import Callable
from dataclasses import dataclass

from millrace.checks import form, words
from millrace.types import Finish, FinishReason, Format, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An answer to be judged; `finish` is None while only its beginning is known."""

    text: str
    finish: Finish | None
    format: Format | None


def _empty(candidate: Candidate) -> bool:
    return not candidate.text.strip()


def _cut_off(candidate: Candidate) -> bool:
    return candidate.finish is not None and candidate.finish.reason is not FinishReason.STOP


def _refusal(candidate: Candidate) -> bool:
    return (candidate.finish is not None and candidate.finish.refused) or words.refuses(candidate.text)


def _unsure(candidate: Candidate) -> bool:
    return words.is_unsure(candidate.text)


def _form(candidate: Candidate) -> bool:
    return candidate.format is not None and not form.holds(candidate.text, candidate.format)


Check = Callable[[Candidate], bool]  # True: the answer fails it

# Cheapest first; the name is what `millrace.check` and the ledger say.
CHECKS: dict[str, Check] = {
    "empty": _empty,
    "cut_off": _cut_off,
    "refusal": _refusal,
    "unsure": _unsure,
    "form": _form,
}
NAMES = tuple(CHECKS)
_OF_A_BEGINNING = ("refusal", "unsure")  # a beginning can be neither empty nor whole


def judge(candidate: Candidate) -> Verdict:
    """Judge a whole answer."""
    return _first_failed(candidate, NAMES)


def judge_beginning(text: str, form_: Format | None) -> Verdict:
    """Judge the first words of an answer that is still coming."""
    return _first_failed(Candidate(text=text, finish=None, format=form_), _OF_A_BEGINNING)


def _first_failed(candidate: Candidate, names: tuple[str, ...]) -> Verdict:
    return Verdict(check=next((name for name in names if CHECKS[name](candidate)), None))
