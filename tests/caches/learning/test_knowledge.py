"""What a cache learns, by tenant and scope, and what a decision goes by."""

import random

import pytest

from millrace.caches.decision.features import LEARNED
from millrace.caches.decision.mix import Weights
from millrace.caches.learning import knowledge as module
from millrace.caches.learning.knowledge import ALIASES, FIT_FROM, Knowledge, log_odds_of
from millrace.types import Lesson, Steering

SHIPPED = Weights(version="1", threshold=0.8, bias=-1.0, weights={"alike": 2.0})
NEEDED = log_odds_of(0.8)


def lesson(
    entry: str = "entry",
    log_ratio: float = 3.0,
    features: dict[str, float] | None = None,
    tenant: str = "t",
    scope: bytes = b"s",
) -> Lesson:
    """Return one about the question "asked"."""
    return Lesson(
        scope=scope,
        tenant=tenant,
        asked_id="asked",
        entry_id=entry,
        features=features or {},
        log_ratio=log_ratio,
        weight=1.0,
    )


def test_without_lessons_the_shipped_setting_decides() -> None:
    """Or another threshold that is configured."""
    found = Knowledge(SHIPPED).guidance("t", b"s", "asked")
    assert (found.weights, found.needed, found.is_off, found.known("entry")) == (SHIPPED, NEEDED, False, 0.0)
    assert Knowledge(SHIPPED, 0.5).guidance("t", b"s", "asked").needed == 0.0
    assert Knowledge(SHIPPED, 1.0).guidance("t", b"s", "asked").needed == 30.0


def test_verdicts_on_a_pair_hold_in_its_scope_alone() -> None:
    """Scopes of one tenant do not share questions; tenants share nothing."""
    learned = Knowledge(SHIPPED)
    learned.teach([lesson()])
    assert learned.guidance("t", b"s", "asked").known("entry") == 3.0
    assert learned.guidance("t", b"other", "asked").known("entry") == 0.0
    assert learned.aliases(b"s", "asked", lambda _: True) == ["entry"]
    assert learned.aliases(b"other", "asked", lambda _: True) == []


def test_some_entries_that_are_still_there_are_aliases() -> None:
    """Those of the latest verdicts first."""
    learned = Knowledge(SHIPPED)
    learned.teach([lesson(str(number)) for number in range(20)])
    found = learned.aliases(b"s", "asked", lambda each: int(each) % 2 == 0)
    assert found == ["18", "16", "14", "12"]
    assert len(found) == ALIASES


def test_a_scope_is_steered_alone_and_a_new_one_as_its_tenant() -> None:
    """Strictness adds to what a hit needs."""
    learned = Knowledge(SHIPPED)
    learned.steer("t", b"", Steering(strictness=1.0))
    learned.steer("t", b"s", Steering(strictness=-0.5, is_off=True))
    assert learned.guidance("t", b"s", "asked").needed == NEEDED - 0.5
    assert learned.guidance("t", b"s", "asked").is_off
    assert learned.guidance("t", b"new", "asked").needed == NEEDED + 1.0
    assert learned.guidance("u", b"new", "asked").needed == NEEDED


def test_a_tenant_learns_which_difference_matters() -> None:
    """A word whose replacement was always wrong keeps other pairs apart too; the others are served as before."""
    chance = random.Random(5)
    word, other = f"{LEARNED}00001", f"{LEARNED}00002"
    lessons = []
    for number in range(600):
        matters = number % 2 == 0
        found = {"alike": chance.gauss(1.2, 0.3), word if matters else other: 1.0, LEARNED: 1.0}
        is_wrong = matters ^ (chance.random() < 0.05)  # as far as the judge can tell
        lessons.append(lesson(str(number), -2.9 if is_wrong else 2.9, found))
    learned = Knowledge(SHIPPED)
    learned.teach(lessons)
    weights = learned.guidance("t", b"new", "?").weights
    pair = {"alike": 1.2, LEARNED: 1.0}
    assert weights.log_odds(pair | {word: 1.0}) < NEEDED - 1
    assert weights.log_odds(pair | {other: 1.0}) > NEEDED
    assert learned.guidance("u", b"new", "?").weights is SHIPPED
    served = sum(weights.log_odds(each.features) >= NEEDED for each in lessons)
    assert served <= sum(SHIPPED.log_odds(each.features) >= NEEDED for each in lessons)


def test_a_few_lessons_change_no_weights() -> None:
    """They may be chance."""
    learned = Knowledge(SHIPPED)
    learned.teach([lesson(str(number), features={"alike": 1.0}) for number in range(FIT_FROM - 1)])
    assert learned.guidance("t", b"s", "asked").weights is SHIPPED


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scope that was not used longest is forgotten, and the tenant."""
    monkeypatch.setattr(module, "PAIRS", 10)
    monkeypatch.setattr(module, "TENANTS", 2)
    learned = Knowledge(SHIPPED)
    for name in ("a", "b", "c"):
        learned.teach([lesson(str(n), tenant=name, scope=name.encode(), features={"x": 1.0}) for n in range(5)])
    assert learned.guidance("a", b"a", "asked").known("0") == 0.0
    assert learned.guidance("c", b"c", "asked").known("0") == 3.0
    monkeypatch.setattr(module, "ALL_LESSONS", 8)
    learned.teach([lesson(tenant="c", features={"x": 1.0})])
    assert [(name, len(each.lessons)) for name, each in learned._tenants.items()] == [("b", 0), ("c", 6)]
