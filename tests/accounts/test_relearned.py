"""What the router would have scored, had other models been asked: against heads that did learn from that."""

import math
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from millrace.accounts.relearned import NEW, NOISE, Begun, Relearned
from millrace.funnel.routing.features import Features, features_of
from millrace.funnel.routing.labels import NO_CHECK, Checked, of_verdicts
from millrace.funnel.routing.learned import Learned
from millrace.funnel.routing.sketch import sketched
from millrace.types import (
    CacheOutcome,
    Judged,
    JudgeErrors,
    Judgement,
    Lever,
    Message,
    Opinion,
    Outcome,
    Past,
    PastCall,
    Prompt,
    Sample,
    Says,
    Scores,
    Status,
    Story,
    Tier,
    Usage,
)
from tests.support.replayed import workload

ERRORS = JudgeErrors(judge="", misses=0.1, misses_upper=0.2, alarms=0.1, alarms_upper=0.2, compared=0)
COUNT = 600
Choose = Callable[[int, float], Tier]  # by the number of a request, and its score


def mostly_large(number: int, score: float) -> Tier:
    return Tier.LARGE if score > 0.05 or number % 4 == 0 else Tier.SMALL


def mostly_small(number: int, score: float) -> Tier:
    return Tier.LARGE if score > 0.15 or number % 16 == 0 else Tier.SMALL


def prompts() -> list[tuple[Features, bool]]:
    """Return the features of fresh questions, and whether the small model fails them."""
    texts = [each.text for each in workload(2 * COUNT, seed=4) if each.text.startswith("Item")][:COUNT]
    return [(features_of(Prompt(messages=(Message(role="user", parts=(text,)),))), "[weak]" in text) for text in texts]


def run(choose: Choose) -> list[Past]:
    """Route and learn as the server does, and return the rows."""
    learned, rows = Learned(), []
    for number, (features, fails) in enumerate(prompts()):
        small, large = learned.heads.scores(features)
        tier = choose(number, large - small)
        scores = Scores(
            tier=tier,
            score=large - small,
            small=small,
            large=large,
            threshold=None,
            labels=learned.labels,
            reason="",
            sketch=sketched(features),
        )
        row = answered(number, scores, fails=fails)
        said = [Checked(each.tier, each.check or NO_CHECK) for each in row.story.judgements]
        label = of_verdicts(said, learned.words)
        assert label is not None
        learned.learn(features, label, float(number))
        rows.append(row)
    return rows


def answered(number: int, scores: Scores, *, fails: bool) -> Past:
    tiers = [scores.tier, Tier.LARGE] if fails and scores.tier is Tier.SMALL else [scores.tier]
    calls = [
        PastCall(
            model=tier,
            tier=tier,
            usage=Usage(input_tokens=10, output_tokens=10),
            cost=100,
            outcome=Outcome.ANSWERED if tier is tiers[-1] else Outcome.REVISED,
        )
        for tier in tiers
    ]
    judgements = tuple(Judgement(tier=tier, check=None if tier is tiers[-1] else "unsure") for tier in tiers)
    return Past(
        request_id=f"r{number}",
        tenant="acme",
        opened_at=float(number),
        status=Status.COMPLETED,
        source=tiers[-1],
        cache=CacheOutcome.MISS,
        strategy="auto",
        code=None,
        check="unsure" if len(tiers) > 1 else None,
        usage=Usage(),
        cost=100 * len(tiers),
        saved=0,
        latency_ms=1.0,
        trimmed_tokens=0,
        calls=calls,
        story=Story(scores=scores, judgements=judgements),
    )


def relearned(rows: list[Past], judged: list[Judged] | None = None) -> Relearned:
    begun = Begun()
    begun.learn(rows)
    return Relearned(begun, judged or [], ERRORS, {})


def scores_of(row: Past) -> Scores:
    assert row.story.scores is not None
    return row.story.scores


def predicted(rows: list[Past], choose: Choose, escalated: Callable[[int], float]) -> list[float]:
    """Return the scores that another choice would have led to."""
    found, heads = [], relearned(rows)
    for number, row in enumerate(rows):
        found.append(heads.score(row, scores_of(row)))
        heads.learn(row, choose(number, found[-1]), escalated(number))
    return found


def test_whoever_learns_the_same_scores_the_same() -> None:
    """To the last bit, so that nothing is decided otherwise; also where judges have spoken."""
    rows = run(mostly_large)
    pairs = [
        Judged(
            sample=Sample(
                id=f"s{at}", lever=Lever.LARGE, tenant="acme", request_id=f"r{at}", taken_at=at, probability=0.1
            ),
            opinions=(Opinion(judge="likeness", says=Says.DIFFERENT, probability=1.0),),
        )
        for at in range(0, COUNT, 20)
    ]
    heads = relearned(rows, pairs)
    for row in rows:
        assert heads.score(row, scores_of(row)) == scores_of(row).score
        heads.learn(row, scores_of(row).tier, 0.0)


def test_other_answers_lead_to_about_the_scores_that_they_would_have_led_to() -> None:
    rows, real = run(mostly_large), run(mostly_small)
    fails = [fails for _, fails in prompts()]
    found = predicted(rows, mostly_small, lambda number: float(fails[number]))
    late = range(COUNT // 3, COUNT)
    as_they_were = math.fsum(abs(scores_of(rows[at]).score - scores_of(real[at]).score) for at in late)
    off = math.fsum(abs(found[at] - scores_of(real[at]).score) for at in late)
    assert off < 0.6 * as_they_were


def test_a_request_that_no_model_was_asked_for_teaches_nothing() -> None:
    rows = run(mostly_large)
    heads = relearned(rows)
    for row in rows[:-1]:
        heads.learn(row, None, 0.0)
    assert heads.score(rows[-1], scores_of(rows[-1])) != scores_of(rows[-1]).score


@pytest.mark.parametrize(
    "changed",
    [
        {"sketch": b""},  # of an earlier version
        {"sketch": b"\x02" + bytes(32)},  # of a later one
        {"labels": 7},  # its learning is frozen
        {"small": None, "large": None},
    ],
)
def test_without_what_is_needed_scores_are_as_they_were(changed: dict[str, object]) -> None:
    rows = [
        replace(row, story=replace(row.story, scores=replace(scores_of(row), **changed))) for row in run(mostly_large)
    ]
    assert predicted(rows, mostly_small, lambda _: 0.5) == [scores_of(row).score for row in rows]


def test_the_more_was_learned_in_a_window_the_less_is_sure() -> None:
    rows = run(mostly_large)
    new, known, frozen = Begun(), Begun(), Begun()
    new.learn(rows)
    known.learn(rows[-100:])
    frozen.learn(rows[-1:])
    assert new.doubt == pytest.approx(NOISE + NEW)
    assert NOISE < known.doubt < NOISE + NEW / 4
    assert frozen.doubt == 0


def test_rows_before_what_was_learned_is_read_do_not_make_it_new() -> None:
    rows = run(mostly_large)
    unread = replace(rows[-101], story=replace(rows[-101].story, scores=replace(scores_of(rows[-101]), labels=0)))
    begun = Begun()
    begun.learn([unread, *rows[-100:]])
    assert begun.doubt < NOISE + NEW / 4
