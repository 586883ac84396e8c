"""What evidence teaches of the checks: rates, which act, and the learned one; each tenant by itself."""

import random
from typing import Any

import numpy as np
import pytest

from millrace.evidence.separation import separations
from millrace.funnel.checks import Candidate, Checks
from millrace.funnel.checks.learned import BUDGET, ENOUGH, Labelled, calibrated, isotonic, learned
from millrace.funnel.checks.lessons import KEPT, TENANTS, Lessons
from millrace.funnel.checks.table import NAMES
from millrace.types import Finish, FinishReason, Judged, Lever, Tier
from tests.support.inline_schemas import InlineSchemas
from tests.support.judged import judged
from tests.support.logs import captured_logs

STOP = Finish(reason=FinishReason.STOP)
SUM = "Tom has 3 boxes of 12 apples each and eats 5 of them. How many apples are left?"


def sample(at: int, *, wrong: bool, lever: Lever = Lever.SMALL, probability: float = 1.0, **fields: Any) -> Judged:
    return judged(str(at), "different" if wrong else "same", lever=lever, probability=probability, **fields)


def traffic(catch: float, alarms: float, count: int = 1000, *, name: str = "arithmetic", **fields: Any) -> list[Judged]:
    """Return judged answers, a third of them wrong, that a check flags at these rates."""
    chance = random.Random(4)
    found = []
    for at in range(count):
        wrong = at % 3 == 0
        flagged = chance.random() < (catch if wrong else alarms)
        features = {name: float(flagged), "n.length": float(wrong) + chance.random()}
        found.append(sample(at, wrong=wrong, features=features, **fields))
    return found


def test_rates_are_those_of_all_answers_also_where_most_are_not_judged() -> None:
    """1,000 answers: all that were flagged were judged, a tenth of the others."""
    flagged = [
        *(sample(at, wrong=True, lever=Lever.CHECK, features={"unsure": 1.0}) for at in range(150)),
        *(sample(at, wrong=False, lever=Lever.CHECK, features={"unsure": 1.0}) for at in range(70)),
    ]
    passed = [
        *(sample(at, wrong=True, probability=0.1, features={"unsure": 0.0}) for at in range(15)),
        *(sample(at, wrong=False, probability=0.1, features={"unsure": 0.0}) for at in range(63)),
    ]
    found = separations([*flagged, *passed])["unsure"]
    assert found.catch.estimate == pytest.approx(0.5)
    assert found.false_alarms.estimate == pytest.approx(0.1)
    assert found.catch.lower is not None
    assert found.catch.lower < 0.45


def test_what_is_not_random_or_of_another_lever_is_not_counted() -> None:
    assert not separations([sample(1, wrong=True, lever=Lever.LARGE, features={"unsure": 1.0})])
    assert not separations([sample(1, wrong=True, probability=0.0, features={"unsure": 1.0})])


def test_a_check_that_does_not_separate_is_switched_off_for_its_tenant_and_comes_back() -> None:
    lessons = Lessons()
    with captured_logs() as logs:
        lessons.learn(traffic(0.2, 0.2))
    assert not lessons.standing("acme").acts("arithmetic")
    assert lessons.standing("acme").acts("refusal")
    assert lessons.standing("other").acts("arithmetic")
    assert "switched off" in logs.text
    assert "arithmetic" in logs.text
    lessons.learn(traffic(0.6, 0.05, KEPT))
    assert lessons.standing("acme").acts("arithmetic")


@pytest.mark.parametrize(("catch", "alarms"), [(0.6, 0.05), (0.04, 0.001), (0.0, 0.0)])
def test_one_that_separates_or_is_seldom_wrong_stays_on(catch: float, alarms: float) -> None:
    lessons = Lessons()
    lessons.learn(traffic(catch, alarms))
    assert lessons.standing("acme").acts("arithmetic")


def test_a_hard_check_is_never_switched_off() -> None:
    lessons = Lessons()
    lessons.learn(traffic(0.3, 0.3, name="loop"))
    assert lessons.standing("acme").acts("loop")


def test_a_soft_check_acts_once_it_is_proven() -> None:
    lessons = Lessons()
    assert not lessons.standing("acme").acts("hedging")
    lessons.learn(traffic(0.5, 0.05, 60, name="hedging"))
    assert not lessons.standing("acme").acts("hedging")  # too few
    lessons.learn(traffic(0.5, 0.05, name="hedging"))
    assert lessons.standing("acme").acts("hedging")


def separable(count: int, seed: int = 1) -> list[Labelled]:
    chance = random.Random(seed)
    found = []
    for at in range(count):
        wrong = at % 3 == 0
        found.append(Labelled({"a": chance.gauss(1.5 if wrong else 0, 1), "b": chance.random()}, wrong, 1.0))
    return found


def test_the_learned_check_says_nothing_before_it_has_enough() -> None:
    assert learned(separable(3 * ENOUGH - 3)) is None
    assert learned(separable(3 * ENOUGH)) is not None


def test_the_learned_check_keeps_to_its_false_alarms_and_is_calibrated() -> None:
    model = learned(separable(900))
    assert model is not None
    fresh = separable(6000, seed=2)
    alarms = np.mean([model.flags(each.features) for each in fresh if not each.is_wrong])
    catch = np.mean([model.flags(each.features) for each in fresh if each.is_wrong])
    assert alarms < 1.5 * BUDGET
    assert catch > 0.4
    likely = [(model.probability(each.features), each.is_wrong) for each in fresh]
    for low, high in ((0.0, 0.3), (0.3, 0.6), (0.6, 1.01)):
        inside = [(probability, wrong) for probability, wrong in likely if low <= probability < high]
        assert np.mean([p for p, _ in inside]) == pytest.approx(np.mean([w for _, w in inside]), abs=0.12)


def test_the_learned_check_that_learns_noise_flags_nothing() -> None:
    chance = random.Random(5)
    model = learned([Labelled({"a": chance.random()}, at % 2 == 0, 1.0) for at in range(600)])
    assert model is not None
    flagged = sum(model.flags({"a": chance.random()}) for _ in range(1000))
    assert flagged < 250


def test_the_calibration_only_rises() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    steps = isotonic(scores, np.array([0.0, 1.0, 0.0, 1.0, 1.0]), np.ones(5))
    assert [calibrated(steps, score) for score in (-1.0, 0.1, 0.25, 0.3, 0.45)] == [0.0, 0.0, 0.5, 0.5, 1.0]


async def test_an_answer_that_the_learned_check_doubts_is_named_for_it_for_its_tenant_alone() -> None:
    lessons = Lessons()
    checks = Checks(InlineSchemas(), lessons=lessons)
    names = checks.names

    async def verdict(text: str, tenant: str, tier: Tier = Tier.SMALL, **how: bool) -> Any:
        return await checks.judge(Candidate(text=text, finish=STOP, question=SUM, tenant=tenant), names, tier, **how)

    good, bad = "Tom has 31 apples left.", "Well, Tom has perhaps 31 apples or so left, who knows."
    known = {text: (await verdict(text, "acme", measures=True)).features for text in (good, bad)}
    assert (await verdict(bad, "acme")).passed
    lessons.learn([sample(at, wrong=at % 3 == 0, features=known[bad if at % 3 == 0 else good]) for at in range(300)])
    doubted = await verdict(bad, "acme")
    assert (doubted.check, doubted.features["learned"]) == ("learned", 1.0)
    assert doubted.reason.startswith("likely wrong: ")
    assert (await verdict(good, "acme")).passed
    assert (await verdict(bad, "other")).passed
    assert (await verdict(bad, "acme", Tier.LARGE)).passed


async def test_the_features_say_of_each_check_whether_it_fails_and_hold_no_text() -> None:
    checks = Checks(InlineSchemas(), lessons=Lessons())
    candidate = Candidate(text="So 3 * 12 = 38 apples, I think.", finish=STOP, question=SUM)
    verdict = await checks.judge(candidate, checks.names, measures=True)
    assert verdict.check == "arithmetic"
    assert (verdict.features["arithmetic"], verdict.features["hedging"], verdict.features["refusal"]) == (1, 1, 0)
    assert "apples" not in repr(verdict.features)
    assert {name.split(".")[0] for name in verdict.features} <= {*NAMES, "n", "w"}
    judged = await checks.judge(candidate, checks.names)  # as on the way of a request
    assert (judged.check, judged.reason, judged.features) == (verdict.check, verdict.reason, {})


def test_memory_is_bounded() -> None:
    lessons = Lessons(lambda _: None)
    lessons.learn(traffic(0.5, 0.1, KEPT + 200))
    for tenant in range(TENANTS + 5):
        lessons.learn(traffic(0.5, 0.1, 2, tenant=f"tenant {tenant}"))
    assert len(lessons._tenants) == TENANTS
    assert lessons.bytes_used < 12_000 * (KEPT + 2 * TENANTS)
