"""The decision: the probability that one answer does for two questions, from all that is known of them.

It is a logistic regression, so that it is quick, says how sure it is, and can go on learning. Its weights come from
`tests/training`: one set for where the networks are asked, a stricter one for where they are not installed. Features
that only learning weighs, which words differ, count nothing until then.
"""

from functools import cache
from importlib.resources import files

import msgspec

from millrace.caches.decision import features
from millrace.caches.guards import Judgement, Question, agree
from millrace.ports import Comparer, Likeness

FILE = "mix.json"
AGREED = "agreed"  # a feature: what rules say more than networks where these are not asked; its shipped weight is 1
SURE = 30.0  # log odds of what is certain
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
        return self.bias + sum(
            value * weights.get(name, 0.0 if name.startswith(features.LEARNED) else _UNHEARD)
            for name, value in found.items()
            if value
        )

    def changed(self, by: dict[str, float]) -> "Weights":
        """Return them with other weights of some features."""
        weights = self.weights
        changed = {name: weights.get(name, 0.0 if name.startswith(features.LEARNED) else _UNHEARD) for name in by}
        return msgspec.structs.replace(self, weights=weights | {name: changed[name] + by[name] for name in by})


@cache
def shipped() -> dict[str, Weights]:
    """Return the weights in the package: "networks", and "alone" for where there are none."""
    return msgspec.json.decode((files(__package__) / FILE).read_bytes(), type=dict[str, Weights])


def weights_for(comparer: Comparer | None) -> Weights:
    """Return the shipped weights for where there is a comparer, or none."""
    return shipped()["alone" if comparer is None else "networks"]


def features_of(a: Question, b: Question, judgement: Judgement, likeness: Likeness | None) -> dict[str, float]:
    """Return all features of a pair that has no hard objection; none where there is nothing to weigh.

    Texts that are compared as they stand, such as code, are alike if there is no objection. Those that are too far
    apart for the verifier to read are not.
    """
    if is_certain(a, b) or (likeness is not None and likeness.log_odds is None):
        return {}
    found = features.of_texts(a, b, judgement) | features.of_differences(judgement)
    return found if likeness is None else found | features.of_networks(likeness)


def is_certain(a: Question, b: Question) -> bool:
    """Whether two texts are compared as they stand."""
    return a.verbatim is not None or b.verbatim is not None


def before_networks(a: Question, b: Question, judgement: Judgement) -> dict[str, float] | None:
    """Return the features of a pair for which the networks need not be asked; None if they must.

    They would hardly say otherwise (`docs/semantic-cache.md`). With the shipped weights of the networks these features
    give the log odds that the weights without networks do, and what is learned counts here too.
    """
    if is_certain(a, b):
        return {}
    if not agree(a, b, judgement):
        return None
    found = features.of_texts(a, b, judgement) | features.of_differences(judgement)
    return found | {AGREED: shipped()["alone"].log_odds(found) - shipped()["networks"].log_odds(found)}


def log_odds(weights: Weights, a: Question, b: Question, found: dict[str, float]) -> float:
    """Return the log odds that one answer does for both, from their `features_of` or those `before_networks`."""
    if is_certain(a, b):
        return SURE
    return weights.log_odds(found) if found else -SURE


def probability(weights: Weights, a: Question, b: Question, judgement: Judgement, likeness: Likeness | None) -> float:
    """Return the probability that one answer does for both. There must be no hard objection."""
    found = log_odds(weights, a, b, features_of(a, b, judgement, likeness))
    before = None if likeness is None else before_networks(a, b, judgement)
    if before is not None:
        found = max(found, log_odds(weights, a, b, before))
    return round(features.logistic(found), 12)  # 0 and 1 of what is certain
