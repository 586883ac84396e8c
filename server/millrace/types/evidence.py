"""What judging has found about cheap answers: samples, what judges say of them, rates, and what follows."""

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct, field

EVIDENCE_TENANT = "(evidence)"  # in the ledger, of the calls that evidence makes at the operator's cost


class Lever(StrEnum):
    """A bet of the funnel: that an answer which costs less is good enough."""

    SEMANTIC = "semantic"  # a stored answer was served to a near question, or would have been, were the scope not off
    NEAR_MISS = "near_miss"  # a stored answer to a near question was not served
    SMALL = "small"  # the small model's answer was given; the large one is asked too
    LARGE = "large"  # the large model was asked at once; the small one is asked too
    CHECK = "check"  # a check took back the small model's answer


class Says(StrEnum):
    """What a judge says of two answers to one question."""

    SAME = "same"  # either does in place of the other
    DIFFERENT = "different"
    UNSURE = "unsure"


class NearAnswer(Struct, frozen=True, kw_only=True, gc=False):
    """A stored answer to a near question that no rule keeps apart, and how the semantic cache weighed the two."""

    entry_id: str
    asked_id: str  # what the entry of the question itself has, or would have, for its id
    question: str  # the stored one
    answer: bytes  # JSON of a `StoredAnswer`
    log_odds: float  # that it answers the question, all things known
    features: dict[str, float]  # of the pair; empty where nothing can be learned from it
    similarity: float  # cosine
    is_off: bool = False  # it would have been served, but its scope serves nothing for now


class Sample(Struct, frozen=True, kw_only=True, gc=False):
    """A bet that was taken to be judged."""

    id: str
    lever: Lever
    tenant: str
    scope: bytes = b""  # of the semantic cache
    request_id: str
    taken_at: float  # Unix seconds
    probability: float  # with which it was taken; 0: not at random
    entry_id: str = ""  # of the stored answer
    asked_id: str = ""
    log_odds: float = 0.0  # as it was decided
    features: dict[str, float] = field(default_factory=dict)  # of a pair of questions, or of the small answer
    detail: str = ""  # the check that the small answer failed; `PASSED` if it would have passed all
    prompt_features: bytes = b""  # what the router knows of the prompt, packed

    @property
    def is_random(self) -> bool:
        """Whether it was taken at random, so that it stands for others. What people say of an answer does not."""
        return self.probability > 0

    @property
    def is_of_questions(self) -> bool:
        """Whether it compares two questions, and not the answers of two models."""
        return self.lever in (Lever.SEMANTIC, Lever.NEAR_MISS)


class Opinion(Struct, frozen=True, kw_only=True, gc=False):
    """What one judge says."""

    judge: str
    says: Says
    probability: float = 1.0  # with which it was asked, given what the judges before it said


class Judged(Struct, frozen=True, kw_only=True, gc=False):
    """A sample and what was said of it, the cheapest judge first."""

    sample: Sample
    opinions: tuple[Opinion, ...]


class JudgeErrors(Struct, frozen=True, kw_only=True, gc=False):
    """How often a judge is wrong, from pairs of which a dearer one spoke too. All are upper 95 % bounds but for means.

    Without such pairs they are those that are assumed of a judge that nobody has checked.
    """

    judge: str
    compared: int  # pairs
    misses: float  # how often it says "same" of what differs: the mean
    misses_upper: float
    alarms: float  # how often it says "different" of what is the same: the mean
    alarms_upper: float


class Rate(Struct, frozen=True, kw_only=True, gc=False):
    """How often something was wrong, with its bounds of 95 % each; None: not known yet."""

    judged: int
    effective: float  # the size of a simple sample that would say as much
    estimate: float | None = None
    lower: float | None = None
    upper: float | None = None
    since: float | None = None  # Unix seconds; of the first sample that counts


class Lesson(Struct, frozen=True, kw_only=True, gc=False):
    """What a semantic cache is to learn from a pair of questions that was judged."""

    scope: bytes
    tenant: str
    asked_id: str
    entry_id: str
    features: dict[str, float]
    log_ratio: float  # of the verdict: how much likelier it is if the two have one answer, as a logarithm
    weight: float  # how many pairs it stands for


class Steering(Struct, frozen=True, kw_only=True, gc=False):
    """How freely a scope of the semantic cache serves. It begins with what is shipped."""

    strictness: float = 0.0  # is added to the log odds that a hit needs
    is_off: bool = False  # nothing is served; what would have been is still judged


class Change(Struct, frozen=True, kw_only=True, gc=False):
    """A change of the steering, and why."""

    at: float  # Unix seconds
    tenant: str
    scope: bytes  # empty: of new scopes of the tenant
    steering: Steering
    reason: str


class Rating(StrEnum):
    """What somebody thinks of an answer."""

    UP = "up"
    DOWN = "down"


class Feedback(Struct, frozen=True, kw_only=True, gc=False):
    """What somebody says of a response. A better answer is not kept, but whether there was one is."""

    tenant: str
    response_id: str
    key_id: str  # who says it; empty where no key is needed
    rating: Rating
    has_better: bool
    at: float  # Unix seconds


class FeedbackCounts(Struct, frozen=True, kw_only=True, gc=False):
    """How often feedback was given."""

    up: int = 0
    down: int = 0
    better: int = 0  # with a better answer


class EvidenceCost(Struct, frozen=True, kw_only=True, gc=False):
    """What evidence has cost: requests that were asked again and calls of judges, and their dollars."""

    requests: int
    dollars: Decimal
