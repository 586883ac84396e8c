"""The decision: the probability that one answer does for two questions, from all that is known of them.

It is a logistic regression, so that it is quick, says how sure it is, and can go on learning. Its weights come from
`tests/training`: one set for where the networks are asked, a stricter one for where they are not installed.
"""

from functools import cache
from importlib.resources import files

import msgspec

from millrace.caches.decision import features
from millrace.caches.guards import Judgement, Question
from millrace.ports import Likeness

FILE = "mix.json"
_UNHEARD = -3.0  # weight of an objection that the weights were not trained with: it is as good as a hard one


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one logistic regression."""

    version: str  # changes with the weights
    threshold: float  # probability from which on an answer is served
    bias: float
    weights: dict[str, float]  # by feature

    def log_odds(self, found: dict[str, float]) -> float:
        """Return the logarithm of the odds that one answer does."""
        weights = self.weights
        return self.bias + sum(value * weights.get(name, _UNHEARD) for name, value in found.items() if value)


@cache
def shipped() -> dict[str, Weights]:
    """Return the weights in the package: "networks", and "alone" for where there are none."""
    return msgspec.json.decode((files(__package__) / FILE).read_bytes(), type=dict[str, Weights])


def probability(weights: Weights, a: Question, b: Question, judgement: Judgement, likeness: Likeness | None) -> float:
    """Return the probability that one answer does for both. There must be no hard objection.

    Texts that are compared as they stand, such as code, are alike if there is none. Those that are too far apart for
    the verifier to read are not.
    """
    if a.verbatim is not None or b.verbatim is not None:
        return 1.0
    if likeness is not None and likeness.log_odds is None:
        return 0.0
    found = features.of_texts(a, b, judgement)
    if likeness is not None:
        found |= features.of_networks(likeness)
    return features.logistic(weights.log_odds(found))
