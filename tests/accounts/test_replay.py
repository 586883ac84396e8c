"""Past requests decided again: each stage, from made rows."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given, strategies as st
from msgspec.structs import replace

from millrace.accounts.comparable import Comparable
from millrace.accounts.promised import TriedPromise
from millrace.accounts.replay import Replay, Rules
from millrace.accounts.steered import Steered
from millrace.accounts.world import CacheRules, Families
from millrace.funnel.routing.learning import Memo
from millrace.funnel.routing.promises import Promised
from millrace.types import (
    PASSED,
    CacheMode,
    CacheOutcome,
    Judged,
    Judgement,
    Lever,
    LookedUp,
    Near,
    Outcome,
    Past,
    PastCall,
    Price,
    Scores,
    Story,
    Tier,
    Usage,
)
from millrace.types.money import Status
from tests.support.judged import judged

PRICES = {
    Tier.SMALL: Price(input=Decimal("0.15"), output=Decimal("0.60")),
    Tier.LARGE: Price(input=Decimal("2.50"), output=Decimal("10.00")),
}
COSTS = {Tier.SMALL: 100 * 150 + 20 * 600, Tier.LARGE: 100 * 2500 + 20 * 10_000}
NOW = Rules(cache=CacheRules(), needed=1.0, limit=0.01, promised=Promised())
SCOPE = b"scope..." + bytes(24)


def call(tier: Tier, outcome: Outcome = Outcome.ANSWERED) -> PastCall:
    return PastCall(
        model=f"{tier}-model",
        tier=tier,
        usage=Usage(input_tokens=100, output_tokens=20),
        cost=COSTS[tier],
        outcome=outcome,
        price=PRICES[tier],
    )


def scores(score: float, tier: Tier = Tier.SMALL) -> Scores:
    return Scores(tier=tier, score=score, small=0.9, large=0.95, threshold=None, labels=0, reason="")


def asked(question: str, at: float, *calls: PastCall, **fields: Any) -> Past:
    """Return a request for a question, which has the key and the entry of its name."""
    known: dict[str, Any] = {
        "source": "small",
        "cache": CacheOutcome.MISS,
        "check": None,
        "strategy": "auto",
        "stored_id": f"ans_{question}",
        "near": (),
        "hit": "",
        "needed": None,
        "age_s": None,
        "scores": scores(0.1) if calls else None,
        "judgements": (),
    }
    known |= fields
    story = Story(
        looked_up=LookedUp(
            mode=CacheMode.ON, key=f"key {question}", scope=SCOPE.hex()[:16], entry_id=question, input_tokens=100
        ),
        **{name: known.pop(name) for name in ("near", "hit", "needed", "age_s", "scores", "judgements")},
    )
    return Past(
        request_id=f"resp_{at}",
        tenant="acme",
        opened_at=at,
        status=Status.COMPLETED,
        code=None,
        usage=Usage(input_tokens=100, output_tokens=20),
        cost=sum(each.cost for each in calls),
        saved=0,
        latency_ms=100.0,
        trimmed_tokens=0,
        calls=[*calls],
        story=story,
        **known,
    )


def small(question: str, at: float, **fields: Any) -> Past:
    return asked(question, at, call(Tier.SMALL), **fields)


def exact(question: str, at: float, age_s: float = 1.0) -> Past:
    return asked(question, at, cache=CacheOutcome.EXACT, source="cache", stored_id="", age_s=age_s)


def hit(question: str, at: float, entry: str, log_odds: float, **fields: Any) -> Past:
    near = (Near(entry_id=entry, similarity=0.9, log_odds=log_odds),)
    return asked(
        question,
        at,
        cache=CacheOutcome.SEMANTIC,
        source="cache",
        stored_id="",
        near=near,
        hit=entry,
        needed=1.0,
        age_s=1.0,
        **fields,
    )


def missed(question: str, at: float, entry: str, log_odds: float) -> Past:
    return small(question, at, near=(Near(entry_id=entry, similarity=0.9, log_odds=log_odds),), needed=1.0)


def replayed(
    rows: Sequence[Past], tried: Rules, was: Rules = NOW, judged: Sequence[Judged] = (), since: float = 0.0
) -> Replay:
    comparable = Comparable(dict(PRICES))
    comparable.learn(rows)
    steered = [Steered(judged, (), limit=each.limit, needed=each.needed, since=since) for each in (was, tried)]
    promise = (
        None if tried.promised == was.promised else TriedPromise(tried.promised, judged, comparable.first_scores, since)
    )
    replay = Replay.of(comparable, was, tried, steered, promise)
    replay.add(rows)
    return replay


def kinds(replay: Replay) -> dict[str, int]:
    return {str(kind): count for kind, count in replay.replayed.kinds.items() if count}


WITHOUT_EXACT = replace(NOW, cache=CacheRules(exact=False))


def test_without_the_exact_cache_a_repeat_is_put_to_a_model_again() -> None:
    replay = replayed([small("a", 1), exact("a", 3)], WITHOUT_EXACT)
    assert kinds(replay) == {"small": 2}
    assert replay.replayed.known == COSTS[Tier.SMALL]
    assert round(replay.replayed.estimated) == COSTS[Tier.SMALL]
    assert replay.otherwise == 1


def test_who_wants_the_cache_alone_is_put_to_no_model() -> None:
    row = exact("a", 3)
    assert row.story.looked_up is not None
    only = replace(row, story=replace(row.story, looked_up=replace(row.story.looked_up, mode=CacheMode.ONLY)))
    replay = replayed([small("a", 1), only], WITHOUT_EXACT)
    assert (kinds(replay), replay.otherwise) == ({"small": 1}, 1)
    assert replay.replayed.cost == COSTS[Tier.SMALL]


def test_an_exact_cache_that_is_turned_on_answers_repeats() -> None:
    rows = [small("a", 1), small("b", 2), small("a", 3)]
    replay = replayed(rows, NOW, was=WITHOUT_EXACT)
    assert kinds(replay) == {"small": 2, "exact": 1}
    assert replay.replayed.cost == 2 * COSTS[Tier.SMALL]


def test_a_shorter_time_to_live_lets_repeats_through() -> None:
    rows = [small("a", 1), exact("a", 50, 49), exact("a", 70, 69)]
    replay = replayed(rows, replace(NOW, cache=CacheRules(ttl_s=30)))
    assert kinds(replay) == {"small": 2, "exact": 1}, "what is put to a model again is stored again"


def test_a_longer_one_keeps_what_had_expired() -> None:
    rows = [small("a", 1), small("a", 50)]
    assert kinds(replayed(rows, NOW, was=replace(NOW, cache=CacheRules(ttl_s=30)))) == {"small": 1, "exact": 1}


def test_what_was_stored_before_the_window_is_there() -> None:
    rows = [exact("a", 50, 40)]
    assert kinds(replayed(rows, replace(NOW, limit=0.5))) == {"exact": 1}
    assert kinds(replayed(rows, replace(NOW, cache=CacheRules(ttl_s=30)))) == {"small": 1}


def test_what_expires_is_no_other_way_of_going() -> None:
    """Nobody has compared the third question with the second, and its answer is gone in what happened too."""
    day = 86_400.0
    rows = [small("a", 1), hit("b", 3, "a", 2.0), missed("c", day / 2, "a", 0.9), small("b", day + 100)]
    rows += [hit(f"x{at}", day / 2 + at, "c", 9.0) for at in range(20)]  # so that most of what is near is near enough
    rows.sort(key=lambda row: row.opened_at)
    for tried in (NOW, replace(NOW, limit=0.02), replace(NOW, promised=Promised(large_share=0.0))):
        replay = replayed(rows, tried)
        assert kinds(replay) == {"small": 3, "semantic": 21}
        assert replay.replayed.cost == sum(row.cost for row in rows)


def test_what_a_judge_has_found_wrong_is_gone_whatever_the_router_promises() -> None:
    """Also where it was served under another threshold than today's."""
    found = judged("s", "different", taken_at=4.0, scope=SCOPE, tenant="acme")
    found = replace(found, sample=replace(found.sample, log_odds=0.5, entry_id="a"))
    served = hit("b", 3, "a", 0.5)
    served = replace(served, story=replace(served.story, needed=0.2))
    rows = [small("a", 1), served, small("b", 6)]
    replay = replayed(rows, replace(NOW, promised=Promised(large_share=0.0)), judged=[found])
    assert kinds(replay) == {"small": 2, "semantic": 1}


def test_a_higher_bar_makes_a_hit_a_miss_which_is_stored() -> None:
    """So the same question, asked again, is in the exact cache then."""
    rows = [small("a", 1), hit("b", 3, "a", 2.0), hit("b", 5, "a", 2.0)]
    assert kinds(replayed(rows, replace(NOW, needed=3.0))) == {"small": 2, "exact": 1}
    assert kinds(replayed(rows, NOW)) == {"small": 1, "semantic": 2}


def test_a_lower_bar_makes_a_miss_a_hit_which_is_not_stored() -> None:
    """So a repeat, which the exact cache had answered, is answered by meaning too."""
    rows = [small("a", 1), missed("b", 3, "a", 0.5), exact("b", 5)]
    replay = replayed(rows, replace(NOW, needed=0.0))
    assert kinds(replay) == {"small": 1, "semantic": 2}
    assert replay.replayed.cost == COSTS[Tier.SMALL]
    assert replay.replayed.wrong_hits > replay.happened.wrong_hits == 0


def test_a_hit_needs_its_entry() -> None:
    """Its entry was stored by a request that is answered by meaning itself now; nobody compared the two others."""
    rows = [small("a", 1), missed("b", 3, "a", 0.5), hit("c", 5, "b", 9.0)]
    replay = replayed(rows, replace(NOW, needed=0.0))
    assert kinds(replay)["semantic"] == 2, "all near questions of this window were near enough"
    high = [*rows, *(missed(f"x{at}", 10 + at, "a", -9.0) for at in range(50))]
    assert kinds(replayed(high, replace(NOW, needed=0.0)))["semantic"] == 1, "few were"


def test_without_the_semantic_cache_nothing_is_near() -> None:
    rows = [small("a", 1), hit("b", 3, "a", 9.0)]
    assert kinds(replayed(rows, replace(NOW, cache=CacheRules(semantic=False)))) == {"small": 2}


def test_a_share_is_kept_by_the_same_loop() -> None:
    rows = [small(f"q{at}", at, scores=scores((at * 37 % 400) / 400)) for at in range(400)]
    tried = replayed(rows, replace(NOW, promised=Promised(large_share=0.3)))
    share = tried.replayed.first[Tier.LARGE] / 400
    assert abs(share - 0.3) < 0.02
    assert tried.replayed.first.total() == 400


def pair(at: float, says: str, score: float) -> Judged:
    """Return a pair of answers that was judged."""
    memo = msgspec.msgpack.encode(Memo("auto", score, Tier.SMALL, b""))
    known: dict[str, Any] = {"lever": Lever.SMALL, "tenant": "acme", "prompt_features": memo, "detail": PASSED}
    return judged(f"p{at}", says, probability=0.5, taken_at=at, **known)


def test_a_quality_is_kept_by_the_pairs_that_were_judged() -> None:
    """All the large model until enough agree, also those of before the window; all of it where they do not."""
    rows = [small(f"q{at}", at, scores=scores((at * 37 % 400) / 400)) for at in range(400)]
    kept = replace(NOW, promised=Promised(keep_quality=0.9))
    assert kinds(replayed(rows, kept)) == {"large": 400}
    same = [pair(float(at), "same", (at * 37 % 400) / 400) for at in range(200)]
    sure = replayed(rows, kept, judged=same)
    assert 20 < sure.replayed.first[Tier.LARGE] < 100
    assert set(kinds(replayed(rows[200:], kept, judged=same, since=200.0))) == {"small"}
    differ = [pair(float(at), "different", (at * 37 % 400) / 400) for at in range(200)]
    assert kinds(replayed(rows, kept, judged=differ)) == {"large": 400}


def test_what_requests_cost_that_got_no_answer_is_spent_too() -> None:
    """Of the dollars of a day; what was not routed teaches nothing of what a model costs."""
    rows = [small(f"q{at}", at, scores=scores((at * 37 % 100) / 100)) for at in range(1, 100)]
    day = replace(NOW, promised=Promised(spend_per_day=Decimal(1)))
    assert replayed(rows, day).replayed.first[Tier.LARGE] > 0
    stopped = replace(asked("q", 0, call(Tier.LARGE), source="large"), status=Status.CANCELLED, cost=2 * 10**9)
    assert replayed([stopped, *rows], day).replayed.first[Tier.LARGE] == 0


def test_what_the_large_model_has_answered_is_known_and_what_it_has_not_is_estimated() -> None:
    rows = [asked("a", 1, call(Tier.LARGE), source="large", scores=scores(0.5, Tier.LARGE)), small("b", 2)]
    promised = Promised(large_share=1.0)
    small_first = replayed(rows, NOW, was=replace(NOW, promised=promised))
    assert kinds(small_first) == {"small": 2}
    large_first = replayed(rows, replace(NOW, promised=promised))
    assert kinds(large_first) == {"large": 2}
    assert large_first.replayed.known == COSTS[Tier.LARGE]
    assert round(large_first.replayed.estimated) == COSTS[Tier.LARGE]


def test_what_the_large_model_would_have_been_paid_is_its_own_price() -> None:
    """Not that of a model that stood in for it last."""
    dear = Price(input=Decimal(100), output=Decimal(100))
    stood_in = replace(call(Tier.LARGE), model="other", price=dear)
    rows = [
        replace(row, baseline=PRICES[Tier.LARGE])
        for row in (small("a", 1), asked("b", 2, stood_in, source="large", scores=scores(0.1, Tier.LARGE)))
    ]
    large_first = replayed(rows, replace(NOW, promised=Promised(large_share=1.0)))
    assert round(large_first.replayed.estimated) == COSTS[Tier.LARGE]


def test_an_escalation_that_is_spared_costs_what_its_large_call_did() -> None:
    row = asked("a", 1, call(Tier.SMALL, Outcome.REVISED), call(Tier.LARGE), source="large", check="unsure")
    replay = replayed([row], replace(NOW, promised=Promised(large_share=1.0)))
    assert (replay.happened.escalated, replay.replayed.escalated) == (1, 0)
    assert replay.replayed.cost == COSTS[Tier.LARGE]


def test_without_the_check_that_failed_the_small_answer_stands() -> None:
    row = asked(
        "a",
        1,
        call(Tier.SMALL, Outcome.REVISED),
        call(Tier.LARGE),
        source="large",
        check="unsure",
        judgements=(Judgement(tier=Tier.SMALL, check="unsure"),),
    )
    off = replayed([row], replace(NOW, checks_off=frozenset({"unsure"})))
    assert (off.replayed.cost, off.replayed.escalated, off.otherwise) == (COSTS[Tier.SMALL], 0, 1)
    other = replayed([row], replace(NOW, checks_off=frozenset({"refusal"})))
    assert (other.replayed.cost, other.otherwise) == (row.cost, 0)


def test_a_stricter_promise_of_wrong_hits_turns_a_scope_off() -> None:
    """By the hits that were judged: all of them wrong here, which the looser promise allows."""
    found = [judged(f"s{at}", "different", taken_at=float(at), scope=SCOPE, tenant="acme") for at in range(1, 40)]
    found = [replace(each, sample=replace(each.sample, log_odds=9.0, entry_id="gone")) for each in found]
    rows = [small("a", 1), *(hit(f"b{at}", 50 + at, "a", 9.0) for at in range(10))]
    loose = replace(NOW, limit=0.999)
    assert kinds(replayed(rows, loose, was=loose, judged=found)) == {"small": 1, "semantic": 10}
    assert kinds(replayed(rows, NOW, was=loose, judged=found)) == {"small": 11}


def test_a_family_is_all_that_was_ever_near() -> None:
    families = Families()
    families.join("a", ["b"])
    families.join("c", ["d"])
    families.join("d", ["a"])
    assert sorted(families.of("b")) == ["a", "b", "c", "d"]
    assert families.of("e") == ["e"]


QUESTIONS = st.sampled_from("abcdef")


@st.composite
def windows(draw: st.DrawFn) -> list[Past]:
    """Return rows that need not agree with one another: caches are emptied, lookups are late, clocks are set."""
    rows: list[Past] = []
    for at in range(draw(st.integers(0, 12))):
        question, other = draw(QUESTIONS), draw(QUESTIONS)
        log_odds = draw(st.floats(-5, 5))
        rows.append(
            draw(
                st.sampled_from(
                    [
                        small(question, at),
                        exact(question, at),
                        hit(question, at, other, log_odds),
                        missed(question, at, other, log_odds),
                        asked(question, at, cache=CacheOutcome.JOINED),
                        asked(question, at, call(Tier.SMALL, Outcome.REVISED), call(Tier.LARGE), source="large"),
                        replace(small(question, at), status=Status.CANCELLED),
                    ]
                )
            )
        )
    return rows


@given(windows(), st.sampled_from([NOW, WITHOUT_EXACT, replace(NOW, promised=Promised(large_share=0.5))]))
def test_unchanged_it_is_what_happened_whatever_that_was(rows: list[Past], rules: Rules) -> None:
    replay = replayed(rows, rules, was=rules)
    assert replay.replayed.shown(len(rows), None) == replay.happened.shown(len(rows), None)
    assert (replay.replayed.known, replay.replayed.estimated) == (sum(row.cost for row in rows), 0)
