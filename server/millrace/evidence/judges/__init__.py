"""The judges of two answers to one question: pure but for what they are given."""

from collections.abc import Sequence
from typing import Literal

from millrace.evidence.judges.equal import EqualJudge
from millrace.evidence.judges.facts import FactsJudge
from millrace.evidence.judges.likeness import LikenessJudge
from millrace.evidence.judges.model import ModelJudge
from millrace.evidence.judges.own import OwnJudge, own_judges
from millrace.ports import AnswerJudge, AskAgain, Comparer
from millrace.types import Strategy

__all__ = ["judges_of", "own_judges"]


def judges_of(
    comparer: Comparer | None,
    ask: AskAgain | None,
    own: Sequence[OwnJudge] = (),
    model: Literal["none", "small", "large"] = "none",
) -> list[AnswerJudge]:
    """Return the judges in the order in which they are asked, the cheapest first.

    `comparer` is the semantic cache's, None where it has none. `own` are the user's. `model` is who judges what they
    leave open, by `ask`.
    """
    judges: list[AnswerJudge] = [EqualJudge(), FactsJudge()]
    if comparer is not None:
        judges.append(LikenessJudge(comparer))
    judges += own
    if ask is not None and model != "none":
        judges.append(ModelJudge(ask, Strategy(model)))
    return judges
