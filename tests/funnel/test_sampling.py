"""What the funnel tells evidence: once for each answer, and never so that a request notices."""

from collections.abc import Sequence
from typing import Any

import pytest

from millrace.types import (
    CacheMode,
    NearAnswer,
    Request,
    SemanticHit,
    SemanticMiss,
    Source,
    Status,
    StoredAnswer,
    Strategy,
    Usage,
)
from tests.support.scripted_models import CUT, STOP, Step, request, scripted_funnel

NEAR = NearAnswer(
    entry_id="e", asked_id="a", question="How deep?", answer=b"{}", log_odds=1.0, features={}, similarity=0.9
)
WEAK: list[Step] = ["I don't know", ".", STOP]


class Told:
    """Evidence that notes what it is told."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []

    def near_miss(self, request: Request, scope: bytes, near: Sequence[NearAnswer], fresh: str) -> None:
        self.all.append(("near", [each.entry_id for each in near], fresh, len(scope)))

    def hit(self, request: Request, scope: bytes, near: NearAnswer) -> None:
        self.all.append(("hit", near.entry_id, len(scope)))

    def answered(self, request: Request, source: Source, text: str, *_: object, **__: object) -> None:
        self.all.append(("answered", source, text))

    def escalated(self, request: Request, check: str, small: str, large: str, *_: object) -> None:
        self.all.append(("escalated", check, small, large))


class Found:
    """A semantic cache that finds the same thing each time."""

    def __init__(self, found: SemanticHit | SemanticMiss) -> None:
        self.found = found

    async def find(self, scope: bytes, question: str, tenant: str = "") -> SemanticHit | SemanticMiss:
        return self.found

    def store(self, *_: object) -> None: ...


async def told_of(
    small: Sequence[Step],
    found: SemanticHit | SemanticMiss | None = None,
    large: Sequence[Step] = ("Large.", STOP),
    **fields: Any,
) -> list[tuple[Any, ...]]:
    async with scripted_funnel(small, large) as stage:
        told: Any = Told()
        stage.funnel.sampling.evidence = told
        stage.funnel._recall._semantic = None if found is None else Found(found)
        await stage.ask(request(**fields))
        return list(told.all)


async def test_a_small_answer_that_stands_is_told() -> None:
    assert await told_of(["Two.", STOP]) == [("answered", Source.SMALL, "Two.")]


async def test_a_large_answer_is_told_where_the_small_model_could_have_been_asked() -> None:
    assert await told_of(["Two.", STOP], strategy=Strategy.LARGE) == [("answered", Source.LARGE, "Large.")]


async def test_an_answer_that_a_check_took_back_is_told_beside_the_one_in_its_place() -> None:
    ((what, check, small, large),) = await told_of(["Two", CUT])
    assert (what, check, small, large) == ("escalated", "cut_off", "Two", "Large.")


async def test_a_near_answer_is_told_beside_the_fresh_one() -> None:
    miss = SemanticMiss(reason="not sure", similarity=0.9, near=(NEAR,))
    assert ("near", ["e"], "Two.", 32) in await told_of(["Two.", STOP], miss)


@pytest.mark.parametrize("mode", [CacheMode.ON, CacheMode.ONLY])
async def test_a_hit_is_told_and_nothing_else(mode: CacheMode) -> None:
    stored = StoredAnswer(text="Two.", model_id="m", usage=Usage(), check=None, stored_at=0.0)
    hit = SemanticHit(answer=stored, age_s=1.0, near=NEAR)
    assert await told_of(["Two.", STOP], hit, cache=mode) == [("hit", "e", 32)]


@pytest.mark.parametrize("steps", [["Two", CUT], ["Two.", STOP]], ids=["cut", "with a check that failed late"])
async def test_what_is_not_whole_is_not_told(steps: Sequence[Step]) -> None:
    large = ("Large", CUT)
    assert await told_of(WEAK if steps[-1] is STOP else steps, large=large) == []


async def test_a_fault_of_evidence_is_not_one_of_the_request() -> None:
    async with scripted_funnel(["Two.", STOP]) as stage:
        broken: Any = object()
        stage.funnel.sampling.evidence = broken
        response = await stage.ask(request())
    assert response.ended is not None
    assert response.ended.status is Status.COMPLETED
