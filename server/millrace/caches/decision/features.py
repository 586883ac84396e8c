"""What is known of a pair of questions, as numbers that a decision weighs.

Each is about 1 where it says something, and 0 where it says nothing. The order of the questions makes no difference.
"""

import math
import zlib

from millrace.caches.guards import Judgement, Pairing, Question
from millrace.caches.guards.pairing import EQUAL
from millrace.ports import Likeness

_STEPS = (0.8, 0.85, 0.9, 0.95)  # of the cosine, from each of which on it counts anew
_SURE = 3.0  # log odds of the verifier at which it is rather sure
_FEW, _SOME = 4, 12  # words
# What a candidate's alignment must outweigh: the share of the words that are left out, each word in another's place.
_LEFT_OUT, _REPLACED, _LEEWAY = 1.1, 0.08, 0.07
LEARNED = "~"  # the names of features begin with it that only learning weighs
_BUCKETS = 1 << 20  # for words that differ: none is kept as it is


def is_far(a: Question, b: Question, judgement: Judgement, aligned: float) -> bool:
    """Whether so little is alike, for this alignment, that the networks would not serve it: 99.6 % of that is nearer.

    It was fitted on what they say of pairs that no hard rule objects to (`docs/semantic-cache.md`). Texts that are
    compared as they stand have no pairing, and are never far.
    """
    pairing = judgement.pairing
    return aligned + _LEEWAY < _LEFT_OUT * _left_out(a, b, pairing) + _REPLACED * len(pairing.replaced)


def _left_out(a: Question, b: Question, pairing: Pairing) -> float:
    """Return the share of the words of both that have no pair."""
    return sum(map(len, pairing.rest)) / max(len(a.words) + len(b.words), 1)


def of_texts(a: Question, b: Question, judgement: Judgement) -> dict[str, float]:
    """Return the features that need no network."""
    pairing = judgement.pairing
    words = len(a.words), len(b.words)
    shared = sum(pair.how == EQUAL for pair in pairing.pairs)
    left_out = [word for side in pairing.rest for word in side]
    found = {f"objects: {each.rule}": 1.0 for each in judgement.soft}
    found |= {
        "objections": len(judgement.soft) / 3,
        "none": float(not judgement.soft),
        "shared": shared / max(*words, 1),
        "paired otherwise": (len(pairing.pairs) - shared) / max(*words, 1),
        "replaced": min(len(pairing.replaced), 3) / 2,
        "added": min(len(pairing.left) + len(pairing.right), 4) / 2,
        "added to one side": float(bool(pairing.left) != bool(pairing.right)),
        "rare left out": min(sum(not word.common for word in left_out), 2) / 2,
        "left out": _left_out(a, b, pairing),
        "lengths": abs(words[0] - words[1]) / max(*words, 1),
        "short": float(max(words) < _FEW),
        "long": float(min(words) > _SOME),
        "keywords": float((a.kind == "keywords") != (b.kind == "keywords")),
        "no question": float(not (a.kinds or b.kinds)),
        "other kind": float(a.kind != b.kind),
    }
    return found


def of_differences(judgement: Judgement) -> dict[str, float]:
    """Return which words differ, as hashes: what a tenant learns of them holds for other pairs too."""
    pairing = judgement.pairing
    replaced = [" / ".join(sorted((a.text, b.text))) for a, b in pairing.replaced]
    alone = [word.text for side in (pairing.left, pairing.right) for word in side]
    named = {f"{LEARNED}{zlib.crc32(each.encode()) % _BUCKETS:05x}": 1.0 for each in (*replaced, *alone)}
    return named | {LEARNED: 1.0}  # that of any pair


def of_networks(likeness: Likeness) -> dict[str, float]:
    """Return the features that networks tell, if both were asked."""
    log_odds = likeness.log_odds
    assert log_odds is not None, "the verifier was asked"
    found = {f"cosine from {step}": max(0.0, likeness.cosine - step) / (1 - step) for step in _STEPS}
    found |= {
        "verifier": log_odds / _SURE,
        "verifier for": max(0.0, log_odds) / _SURE,
        "verifier sure": max(0.0, log_odds - 2) / _SURE,
        "verifier and cosine": log_odds / _SURE * max(0.0, likeness.cosine - _STEPS[0]) / (1 - _STEPS[0]),
    }
    return found


def logistic(log_odds: float) -> float:
    """Return the probability of log odds."""
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, log_odds))))
