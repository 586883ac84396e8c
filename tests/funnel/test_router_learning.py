"""How the router learns from judged pairs and people, and what becomes of it over restarts, a freeze and a handover."""

from typing import Any

from msgspec.structs import replace

from millrace.funnel.routing.learned import LATE_S
from millrace.funnel.routing.promises import Promised, Promises
from millrace.funnel.routing.router import Router
from millrace.types import Judged, LabelSource, Lever, Message, Rating, Request, StateVersion, Tier, Verdict
from tests.support.clock import ManualClock
from tests.support.judged import judged
from tests.support.router_store import MemoryRouterStore
from tests.support.scripted_models import request

TEXT = "How deep is the mill pond?"
TENANT = "anonymous"


def asked(number: int = 0, **fields: Any) -> Request:
    return request(Message(role="user", parts=(TEXT,)), id=f"resp_{number}", **fields)


def router() -> Router:
    return Router(ManualClock(), Promises(Promised(keep_quality=0.9), ManualClock()))


def pair(of: Router, id_: str, says: str, lever: Lever = Lever.SMALL, **fields: Any) -> Judged:
    memo = of.advise(asked()).features
    known: dict[str, Any] = {
        "lever": lever,
        "tenant": TENANT,
        "probability": 0.01,
        "prompt_features": memo,
        "taken_at": 1000.0,
    }
    return judged(id_, says, **known | fields)


async def taught(of: Router, store: MemoryRouterStore) -> None:
    of.learning.known(TENANT)
    await of.learning.read(store)
    while of.learning.waiting:
        of.learning.teach()


def count(of: Router, source: LabelSource) -> int:
    return of.learning.known(TENANT).counts[source].labels


def score(of: Router) -> float:
    found = of.advise(asked()).score
    assert found is not None
    return found


async def test_pairs_that_differ_raise_the_score_and_others_lower_it() -> None:
    scores = []
    for says in ("same", "different"):
        each, store = router(), MemoryRouterStore()
        each.learn([pair(each, str(number), says) for number in range(100)])
        await taught(each, store)
        assert count(each, LabelSource.SHADOW) == 100
        scores.append(score(each))
    assert abs(scores[0]) < 0.1
    assert scores[1] > scores[0] + 0.1


async def test_other_samples_teach_nothing() -> None:
    """Hits of caches, requests that were routed by nobody, and what was not taken at random."""
    each = router()
    hit = pair(each, "1", "different", lever=Lever.SEMANTIC)
    unrouted = pair(each, "2", "different", prompt_features=b"")
    unrandom = pair(each, "3", "different", probability=0.0)
    damaged = pair(each, "4", "different", prompt_features=b"\x00")
    each.learn([hit, unrouted, unrandom, damaged])
    await taught(each, MemoryRouterStore())
    assert each.learning.known(TENANT).labels == 0


async def test_a_promise_of_quality_is_kept_from_pairs_alone() -> None:
    each = router()
    for number in range(200):
        each.learn([pair(each, str(number), "same")])
    await taught(each, MemoryRouterStore())
    advice = each.advise(asked())
    assert advice.tier is Tier.SMALL
    assert advice.reason.startswith("keeps 0.9 of quality: 200 labels")


async def test_a_restart_learns_no_pair_twice() -> None:
    """All that is kept comes again after a start, also what was judged late."""
    first, store = router(), MemoryRouterStore()
    pairs = [pair(first, str(number), "same", taken_at=1000.0 + number * LATE_S / 10) for number in range(30)]
    late = pair(first, "late", "same", taken_at=1000.0 + 28.5 * LATE_S / 10)
    first.learn(pairs)
    await taught(first, store)
    await first.learning.keep(store)
    second = router()
    second.learn([*pairs, late])
    await taught(second, store)
    assert count(second, LabelSource.SHADOW) == 31
    assert abs(score(second) - score(first)) < 0.01


async def test_without_its_state_a_restart_learns_all_pairs_that_are_kept() -> None:
    first = router()
    pairs = [pair(first, str(number), "different", taken_at=1000.0 + number) for number in range(20)]
    second = router()
    second.learn(pairs)
    await taught(second, MemoryRouterStore())
    assert count(second, LabelSource.SHADOW) == 20


async def test_who_is_frozen_learns_nothing_and_nothing_of_it_later() -> None:
    each, store = router(), MemoryRouterStore()
    store.frozen_tenants = frozenset({TENANT})
    await each.learning.begin(store)
    pairs = [pair(each, str(number), "different") for number in range(10)]
    each.learn(pairs)
    each.judged(asked(), each.advise(asked()), [(Tier.SMALL, Verdict())])
    await taught(each, store)
    assert each.learning.known(TENANT).labels == 0
    await each.learning.keep(store)
    again, store.frozen_tenants = router(), frozenset()
    again.learn(pairs)
    await taught(again, store)
    assert again.learning.known(TENANT).labels == 0


async def test_a_state_that_another_process_kept_is_learned_on_top_of() -> None:
    """In a handover both keep what they learned."""
    old, new, store = router(), router(), MemoryRouterStore()
    for each in (old, new):
        await taught(each, store)
    old.learn([pair(old, "old", "same")])
    await taught(old, store)
    await old.learning.keep(store)
    new.learn([pair(new, "new", "same")])
    await taught(new, store)
    await new.learning.keep(store)  # it finds the other's, and reads it
    await new.learning.keep(store)
    kept = store.states[TENANT]
    assert kept.version == StateVersion(1, 1)
    assert count(new, LabelSource.SHADOW) == 2


async def test_a_damaged_state_is_left_out_and_the_router_begins_anew() -> None:
    each, store = router(), MemoryRouterStore()
    each.learn([pair(each, "1", "same")])
    await taught(each, store)
    await each.learning.keep(store)
    store.states[TENANT] = replace(store.states[TENANT], state=b"\xff" * 40)
    again = router()
    again.learn([pair(again, "2", "same")])
    await taught(again, store)
    assert count(again, LabelSource.SHADOW) == 1
    await again.learning.keep(store)
    assert store.states[TENANT].version.number == 2


async def test_what_a_person_says_teaches_the_model_that_answered() -> None:
    each, store = router(), MemoryRouterStore()
    one = asked(1)
    advice = each.advise(one)
    each.judged(one, advice, [(Tier.SMALL, Verdict(check="unsure")), (Tier.LARGE, Verdict())])
    each.feedback(TENANT, "resp_1", Rating.DOWN)
    each.feedback("other", "resp_1", Rating.DOWN)
    each.feedback(TENANT, "resp_unknown", Rating.DOWN)
    await taught(each, store)
    assert count(each, LabelSource.FEEDBACK) == 1


async def test_a_check_that_fails_as_many_good_answers_as_others_teaches_nothing() -> None:
    each, store = router(), MemoryRouterStore()
    each.learn(
        [pair(each, str(number), "same", Lever.CHECK, detail="unsure", probability=1.0) for number in range(200)]
    )
    await taught(each, store)
    before = count(each, LabelSource.CHECK)
    each.judged(asked(), each.advise(asked()), [(Tier.SMALL, Verdict(check="unsure"))])
    await taught(each, store)
    assert count(each, LabelSource.CHECK) == before
    each.judged(asked(), each.advise(asked()), [(Tier.SMALL, Verdict())])
    await taught(each, store)
    assert count(each, LabelSource.CHECK) == before + 1


async def test_memory_holds_some_tenants_and_the_disk_all() -> None:
    each, store = router(), MemoryRouterStore()
    for number in range(100):
        one = asked(tenant=f"tenant{number}")
        each.judged(one, each.advise(one), [(Tier.SMALL, Verdict())])
    await taught(each, store)
    await each.learning.keep(store)
    assert len(store.states) == 100
    assert len(each.learning._tenants) == 64
    each.advise(asked(tenant="tenant0"))
    await each.learning.read(store)
    assert each.learning.known("tenant0").labels == 0
    assert each.learning.known("tenant0").counts[LabelSource.CHECK].labels == 1
