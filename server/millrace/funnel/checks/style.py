"""Signs that an answer is weak, which say little alone."""

import re

from millrace.funnel.checks.candidate import Candidate

_HEDGES = re.compile(
    r"\b(?:i'm not (?:entirely |completely |quite )?(?:sure|certain)|i am not (?:entirely |completely "
    r")?(?:sure|certain)|"
    r"i (?:think|believe|guess|suppose|assume|would guess|don't know)|not (?:entirely |completely )?clear|"
    r"unclear|unspecified|"
    r"(?:doesn't|does not|don't|do not|isn't|is not|aren't|are not) (?:specif(?:y|ied)|given|provided?|"
    r"mention(?:ed)?|"
    r"state(?:d)?|enough information|know)|"
    r"(?:we|i|you)(?:'d| would)? need (?:more|additional|to know)|not enough information|without (?:more|"
    r"additional|further|knowing)|"
    r"cannot be (?:determined|calculated|answered|known)|can't (?:determine|calculate|say|know)|cannot "
    r"(?:determine|calculate|say|know)|"
    r"(?:let's|let us|we can|we will|we'll|we must|we have to|i will|i'll) assume|assuming|it(?:'s| is) "
    r"(?:hard|difficult|impossible) to|"
    r"however, (?:since|this|the question|we)|wait|sorry|apologi[sz]e|my mistake|there (?:might|may|seems to) be|"
    r"seems? (?:to be )?(?:an error|incorrect|wrong|off)|doesn't make sense|not possible|impossible)\b",
    re.IGNORECASE,
)
# Within a calculation these say that it does not come out.
_TURNS = re.compile(
    r"\b(?:however|cannot|can't|not possible|must have been|let's check|doesn't|does not|contradicts?|we "
    r"know that)\b",
    re.IGNORECASE,
)
_LONG, _MUCH = 6000, 40  # characters of an answer that is long, and how many times its question it has


def hedging(candidate: Candidate) -> str:
    """Say whether the answer says that it is unsure, or assumes what it was not told."""
    prose = candidate.read.prose.replace("’", "'")
    if _HEDGES.search(prose) or (candidate.read.asked is not None and _TURNS.search(prose)):
        return "it hedges"
    return ""


def length(candidate: Candidate) -> str:
    """Say whether the answer is very long for its question."""
    size = len(candidate.read.prose)
    return "it is very long" if size > max(_LONG, _MUCH * len(candidate.question)) else ""
