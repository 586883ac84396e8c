"""A scope becomes stricter, is off, comes back and becomes freer, by what was judged."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from millrace.evidence import trust as module
from millrace.evidence.trust import ENOUGH, FREER, PAUSE, STEP, WINDOW, Trust, log_ratio, wrong_entries
from millrace.types import Change, Judged, Lesson, Lever, Opinion, Sample, Says, Steering

SAME, DIFFERENT = Says.SAME, Says.DIFFERENT
NEEDED = 1.0


class Pupil:
    """Implements `ports.Learner`, and keeps what it is told."""

    def __init__(self) -> None:
        self.lessons: list[Lesson] = []
        self.steered: list[tuple[str, bytes, Steering]] = []

    def teach(self, lessons: Sequence[Lesson]) -> None:
        """Keep lessons."""
        self.lessons += lessons

    def steer(self, tenant: str, scope: bytes, steering: Steering) -> None:
        """Keep how it is steered."""
        self.steered.append((tenant, scope, steering))


def judged(
    *says: Says, lever: Lever = Lever.SEMANTIC, log_odds: float = 2.0, scope: bytes = b"s", tenant: str = "t"
) -> Judged:
    """Return what judges said of one pair."""
    opinions = tuple(Opinion(judge=f"judge {number}", says=each) for number, each in enumerate(says))
    sample = Sample(
        id="smp",
        lever=lever,
        tenant=tenant,
        scope=scope,
        request_id="r",
        taken_at=1.0,
        probability=1.0,
        entry_id="entry",
        asked_id="asked",
        log_odds=log_odds,
    )
    return Judged(sample=sample, opinions=opinions)


# Of near misses, which tell how often the first judge is wrong: hardly ever.
KNOWN = [judged(SAME, SAME, lever=Lever.NEAR_MISS), judged(DIFFERENT, DIFFERENT, lever=Lever.NEAR_MISS)] * 2000


def trusted(pupil: Pupil | None = None) -> Trust:
    """Return one that knows its judges."""
    trust = Trust(pupil, limit=0.01, needed=NEEDED)
    trust.changes([replace(each, sample=replace(each.sample, scope=b"other")) for each in KNOWN], 0.0)
    return trust


def told(trust: Trust, found: Sequence[Judged]) -> list[Change]:
    """Tell it in batches, as the plane does; return the changes of the scope."""
    changes: list[Change] = []
    for at in range(0, len(found), 10):
        batch = found[at : at + 10]
        made = trust.changes(batch, 7.0)
        trust.learn(batch, made)
        changes += [each for each in made if each.scope == b"s"]
    return changes


def test_a_scope_is_off_once_even_the_lower_bound_passes_the_limit() -> None:
    """Its hits of before no longer count; the reason has the figures."""
    pupil = Pupil()
    trust = trusted(pupil)
    (change,) = told(trust, [judged(DIFFERENT, DIFFERENT)] * 10 + [judged(SAME)] * 30)[:1]
    assert change.steering.is_off
    assert change.reason.startswith("off: ")
    assert ("t", b"s", change.steering) in pupil.steered
    assert trust.steering("t", b"s").is_off


def test_a_scope_comes_back_stricter_when_what_it_would_serve_was_right() -> None:
    """The bets that it did not take are judged for nothing."""
    trust = trusted()
    told(trust, [judged(DIFFERENT, DIFFERENT)] * 10)
    assert trust.steering("t", b"s").is_off
    changes = told(trust, [judged(SAME)] * (PAUSE - 10))
    assert not changes
    (change,) = told(trust, [judged(SAME)] * 20)
    assert change.steering == Steering(strictness=STEP)
    assert change.reason.startswith("on again: ")


def test_a_scope_is_stricter_when_its_estimate_passes_the_limit() -> None:
    """Two wrong ones of a hundred are too many, and too few for the lower bound."""
    trust = trusted()
    found = [judged(SAME)] * 100
    found[20] = found[70] = judged(DIFFERENT, DIFFERENT)
    assert [change.steering.strictness for change in told(trust, found)] == [STEP]


def test_a_scope_is_stricter_when_enough_were_judged_and_the_bound_still_passes_the_limit() -> None:
    """One wrong one of three hundred has an upper bound of 1.6 %."""
    trust = trusted()
    found = [judged(SAME)] * ENOUGH
    found[150] = judged(DIFFERENT, DIFFERENT)
    assert not told(trust, found[: ENOUGH - 10])
    assert any(change.steering.strictness > 0 for change in told(trust, found[ENOUGH - 10 :] + [judged(SAME)] * 10))


def test_a_scope_is_freer_only_where_near_misses_had_the_same_answer() -> None:
    """Those just below what a hit needs."""
    steered = {}
    for says in (SAME, DIFFERENT):
        trust = trusted()
        told(trust, [judged(says, says, lever=Lever.NEAR_MISS, log_odds=NEEDED - 0.1)] * 30)
        told(trust, [judged(SAME)] * (ENOUGH + 2 * PAUSE))
        steered[says] = trust.steering("t", b"s").strictness
    assert steered[SAME] <= -FREER
    assert steered[DIFFERENT] == 0.0


def test_hits_that_would_no_longer_be_served_do_not_count() -> None:
    """A stricter scope starts with the part of its record that it would serve again."""
    trust = trusted()
    trust.learn([], [Change(at=0.0, tenant="t", scope=b"s", steering=Steering(strictness=2.0), reason="")])
    told(trust, [judged(DIFFERENT, DIFFERENT, log_odds=NEEDED + 1.9)] + [judged(SAME, log_odds=NEEDED + 2.1)] * 9)
    found = trust.rate("t", b"s")
    assert (found.judged, found.estimate) == (9, 0.0)


def test_the_record_ages() -> None:
    """A thousand judged hits later a bad day is forgotten."""
    trust = trusted()
    told(trust, [judged(SAME, log_odds=9.0)] * 100 + [judged(DIFFERENT, DIFFERENT, log_odds=9.0)])
    estimate = trust.rate("t", b"s").estimate
    assert estimate is not None
    assert estimate > 0.005
    told(trust, [judged(SAME, log_odds=9.0)] * WINDOW)
    assert trust.rate("t", b"s").estimate == 0.0


def test_a_long_good_record_does_not_hide_that_hits_went_bad() -> None:
    """Of a thousand judged hits five wrong ones are few; of the last sixty they are many."""
    trust = trusted()
    told(trust, [judged(SAME, log_odds=9.0)] * WINDOW)
    assert not trust.steering("t", b"s").is_off
    found = [judged(SAME, log_odds=9.0), judged(DIFFERENT, DIFFERENT, log_odds=9.0)] * 5
    (change, *_) = told(trust, [*found, *[judged(SAME, log_odds=9.0)] * 10])
    assert change.steering.is_off


def test_a_new_scope_begins_as_its_tenant_stands_and_tenants_never_meet() -> None:
    """What one tenant's scopes have shown holds for its next one, and for nobody else's."""
    trust = trusted()
    told(trust, [judged(DIFFERENT, DIFFERENT)] * 10)
    assert trust.steering("t", b"new").is_off
    assert trust.steering("u", b"new") == Steering()


def test_more_is_judged_until_a_scope_has_proven_itself() -> None:
    """Then a smaller share does."""
    trust = trusted()
    assert trust.share("t", b"s", 0.1) == 0.25
    told(trust, [judged(SAME)] * 400)
    assert trust.share("t", b"s", 0.1) == 0.1


def test_a_verdict_of_one_judge_counts_less_than_one_that_was_checked() -> None:
    """Its errors are what it counts less by; nothing is ever certain."""
    trust = trusted()
    single, checked = log_ratio(judged(SAME), trust.errors), log_ratio(judged(SAME, SAME), trust.errors)
    assert 0 < single < checked < 10
    assert log_ratio(judged(DIFFERENT), trust.errors) < 0
    assert log_ratio(judged(SAME, DIFFERENT), trust.errors) == -checked


def test_what_was_judged_before_is_taken_over_at_a_start() -> None:
    """The record, the steering and the lessons."""
    pupil = Pupil()
    before = Trust(None, limit=0.01, needed=NEEDED)
    rows = [*KNOWN[:100], *[judged(SAME)] * 50]
    changes = [Change(at=1.0, tenant="t", scope=b"s", steering=Steering(strictness=0.5), reason="stricter")]
    before.restore(rows, changes)
    after = Trust(pupil, limit=0.01, needed=NEEDED)
    after.restore(rows, changes)
    assert after.steering("t", b"s") == before.steering("t", b"s") == Steering(strictness=0.5)
    assert after.rate("t", b"s") == before.rate("t", b"s")
    assert len(pupil.lessons) == len(rows)


def at(found: Judged, when: float) -> Judged:
    """Return it as if its sample was taken then."""
    return replace(found, sample=replace(found.sample, taken_at=when))


def test_a_start_counts_nothing_that_was_judged_before_a_scope_was_off() -> None:
    """Nor do hits of before a change bring the next one: a restart must not change how a scope is steered."""
    wrong = [at(judged(DIFFERENT, DIFFERENT, log_odds=9.0), 1.0)] * 40
    right = [at(judged(SAME, log_odds=9.0), 3.0)] * 50
    changes = [
        Change(at=2.0, tenant="t", scope=b"s", steering=Steering(is_off=True), reason="off"),
        Change(at=4.0, tenant="t", scope=b"s", steering=Steering(strictness=STEP), reason="on again"),
    ]
    later = [at(judged(SAME, log_odds=9.0), 5.0)] * 20
    pupil = Pupil()
    trust = Trust(pupil, limit=0.01, needed=NEEDED)
    trust.steer(changes)
    trust.restore([*KNOWN[:2000], *later, *wrong, *right], changes)
    found = trust.rate("t", b"s")
    assert (found.judged, found.estimate) == (20, 0.0)
    assert [each for each in pupil.steered if each[1] == b"s"] == [("t", b"s", Steering(strictness=STEP))]
    assert not told(trust, [at(judged(SAME, log_odds=9.0), 6.0)] * 10)


def test_a_scope_stands_as_its_tenant_until_it_has_changed_itself() -> None:
    """As the cache sees it. A scope that was right meanwhile soon serves again, whatever its tenant's others do."""
    trust = trusted()
    told(trust, [judged(SAME)] * 100)
    trust.learn([], [Change(at=8.0, tenant="t", scope=b"", steering=Steering(is_off=True), reason="off")])
    assert trust.steering("t", b"s").is_off
    (change,) = told(trust, [judged(SAME)] * 10)
    assert change.reason.startswith("on again: ")
    assert trust.steering("t", b"s") == change.steering
    assert trust.steering("t", b"new").is_off


def test_what_is_remembered_of_all_scopes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scopes that were not heard of longest lose their record; how they are steered stays."""
    monkeypatch.setattr(module, "KEPT", 100)
    trust = trusted()
    trust.learn([], [Change(at=0.0, tenant="t", scope=b"s", steering=Steering(strictness=STEP), reason="")])
    told(trust, [judged(SAME, log_odds=9.0)] * 30)
    told(trust, [judged(SAME, log_odds=9.0, scope=b"busy", tenant="u")] * 40)
    assert trust.rate("t", b"s").judged == 0
    assert trust.steering("t", b"s") == Steering(strictness=STEP)
    assert trust.rate("u", b"busy").judged == 40


def test_entries_that_were_served_and_wrong_are_to_be_removed() -> None:
    """Near misses are not: nobody was served them."""
    found = [judged(DIFFERENT), judged(DIFFERENT, SAME), judged(DIFFERENT, lever=Lever.NEAR_MISS), judged(SAME)]
    assert wrong_entries(found) == {"t": ["entry"]}
