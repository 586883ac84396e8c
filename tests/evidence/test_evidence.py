"""The plane: what it takes, in which order it stores, teaches and removes, and what it leaves out."""

import asyncio
import random
from collections.abc import Callable, Sequence

import msgspec
import pytest

from millrace.evidence import evidence as module
from millrace.evidence.evidence import ASKING, WAITING, Evidence, Shares
from millrace.evidence.judging import Panel
from millrace.evidence.trust import Trust
from millrace.types import (
    PASSED,
    Change,
    Judged,
    Lesson,
    Lever,
    Media,
    Message,
    NearAnswer,
    Prompt,
    Rating,
    Request,
    Says,
    Source,
    Steering,
    StoredAnswer,
    Strategy,
    Tool,
    Usage,
    Verdict,
)
from tests.support.scripted_models import request
from tests.support.streams import ErringJudge, MemoryStore
from tests.support.waiting import until

ALL = Shares(hits=1.0, small=1.0, large=1.0)


class Plane:
    """A plane, and what comes of it in order."""

    def __init__(
        self,
        answer: str | None = "yes",
        shares: Shares = ALL,
        store: MemoryStore | None = None,
        is_busy: Callable[[], bool] = lambda: False,
        *,
        late: int = 0,  # times that another process is late to hear of what is removed
        late_answers: bool = False,  # no answer comes before `go_on`
    ) -> None:
        self.events: list[str] = []
        self.asked: list[tuple[str, Strategy | None]] = []
        self._answer = answer
        self._late = late
        self.go_on = asyncio.Event()
        if not late_answers:
            self.go_on.set()
        self.store = store or Noting(self.events)
        trust = Trust(self, limit=0.01, needed=1.0)
        panel = Panel([ErringJudge("sure", 0.0, random.Random(1))], 0.0)
        self.evidence = Evidence(
            self.store,
            panel,
            trust,
            self._ask,
            self._remove,
            shares,
            wall=lambda: 50.0,
            is_busy=is_busy,
            gather_s=0.0,
            measured=self._measured,
        )

    def teach(self, lessons: Sequence[Lesson]) -> None:
        """Note it."""
        self.events.append(f"taught {len(lessons)}")

    def steer(self, tenant: str, scope: bytes, steering: Steering) -> None:
        """Note it."""
        self.events.append("steered")

    async def judged(self) -> list[Judged]:
        """Return what was stored once all is judged."""
        task = asyncio.create_task(self.evidence.run())
        while self.evidence.waiting:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        task.cancel()
        return self.store.rows

    async def _ask(self, request: Request, strategy: Strategy | None = None) -> str | None:
        self.asked.append((request.id, strategy))
        await self.go_on.wait()
        return self._answer

    async def _measured(self, request: Request, text: str) -> Verdict:
        return Verdict(check="unsure" if text == "no" else None, features={"unsure": float(text == "no")})

    async def _remove(self, tenant: str, entry_ids: Sequence[str]) -> None:
        if self._late:
            self._late -= 1
            raise TimeoutError
        self.events.append(f"removed {tenant} {' '.join(entry_ids)}")


class Noting(MemoryStore):
    """Notes when it has stored something."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self._events = events

    async def add(self, judged: Sequence[Judged], changes: Sequence[Change] = ()) -> None:
        """Store it."""
        await super().add(judged, changes)
        self._events.append("stored")


def near(text: str, *, is_off: bool = False) -> NearAnswer:
    """Return a stored answer."""
    stored = StoredAnswer(text=text, model_id="m", usage=Usage(), check=None, stored_at=0.0)
    return NearAnswer(
        entry_id="sem_1",
        asked_id="sem_2",
        question="Is it?",
        answer=msgspec.json.encode(stored),
        log_odds=2.0,
        features={"none": 1.0},
        similarity=0.9,
        is_off=is_off,
    )


async def test_a_near_miss_is_judged_without_another_call() -> None:
    """Always, and with what the pair was weighed by."""
    plane = Plane(shares=Shares(hits=0.0, small=0.0, large=0.0))
    plane.evidence.near_miss(request(), b"scope", [near("yes"), near("no")], "yes")
    same, different = await plane.judged()
    assert (same.sample.lever, same.sample.probability, same.opinions[0].says) == (Lever.NEAR_MISS, 1.0, Says.SAME)
    assert different.opinions[0].says is Says.DIFFERENT
    assert (same.sample.scope, same.sample.features, same.sample.taken_at) == (b"scope", {"none": 1.0}, 50.0)
    assert plane.asked == []
    assert plane.events == ["stored", "taught 2"]  # what nobody was served is not removed


async def test_a_hit_is_asked_once_more_and_removed_if_it_is_wrong() -> None:
    """After it is stored and taught."""
    plane = Plane(answer="no")
    plane.evidence.hit(request(tenant="t"), b"scope", near("yes"))
    (found,) = await plane.judged()
    assert (found.sample.lever, found.opinions[0].says) == (Lever.SEMANTIC, Says.DIFFERENT)
    assert plane.asked == [("resp_1", None)]
    assert plane.events == ["stored", "taught 1", "removed t sem_1"]


async def test_a_hit_that_a_scope_which_is_off_did_not_serve_counts_as_one() -> None:
    """The model's answer is there already."""
    plane = Plane()
    plane.evidence.near_miss(request(), b"scope", [near("yes", is_off=True)], "yes")
    (found,) = await plane.judged()
    assert (found.sample.lever, found.sample.probability, plane.asked) == (Lever.SEMANTIC, 1.0, [])


async def test_the_other_model_is_asked_for_answers_of_either() -> None:
    """With the probability of each."""
    plane = Plane()
    plane.evidence.answered(request(), Source.SMALL, "yes")
    plane.evidence.answered(request(), Source.LARGE, "yes")
    assert [each.sample.lever for each in await plane.judged()] == [Lever.SMALL, Lever.LARGE]
    assert [strategy for _, strategy in plane.asked] == [Strategy.LARGE, Strategy.SMALL]


@pytest.mark.parametrize(("answer", "detail"), [("yes", PASSED), ("no", "unsure")])
async def test_a_small_answer_that_nobody_was_given_is_checked_too(answer: str, detail: str) -> None:
    """So that it is known who would have been given the large model's all the same."""
    plane = Plane(answer=answer)
    plane.evidence.answered(request(), Source.LARGE, "yes")
    plane.evidence.answered(request(), Source.SMALL, "yes")
    assert [each.sample.detail for each in await plane.judged()] == [detail, ""]


async def test_an_answer_that_a_check_took_back_is_judged_by_the_one_in_its_place() -> None:
    """It says which check."""
    plane = Plane()
    plane.evidence.escalated(request(), "refusal", "no", "yes")
    (found,) = await plane.judged()
    assert (found.sample.lever, found.sample.detail, found.opinions[0].says) == (
        Lever.CHECK,
        "refusal",
        Says.DIFFERENT,
    )
    assert found.sample.features == {"unsure": 1.0, "refusal": 1.0}  # of all checks, that one among them


TOOLS = request(tools=(Tool(name="f"),))
MEDIA = request(Message(role="user", parts=("see", Media(kind="image", fields={"url": "x"}))))
STORED = request(store=True)


@pytest.mark.parametrize("asked", [TOOLS, MEDIA, STORED], ids=["tools", "files", "store"])
async def test_some_requests_are_never_asked_again(asked: Request) -> None:
    """What costs no call is judged all the same."""
    plane = Plane()
    plane.evidence.hit(asked, b"scope", near("yes"))
    plane.evidence.answered(asked, Source.SMALL, "yes")
    assert plane.evidence.waiting == 0
    plane.evidence.near_miss(asked, b"scope", [near("yes")], "yes")
    assert len(await plane.judged()) == 1
    assert plane.asked == []


async def test_who_opted_out_is_not_sampled_at_all() -> None:
    """Not even where it costs nothing."""
    plane, asked = Plane(), request(evidence=False)
    plane.evidence.hit(asked, b"scope", near("yes"))
    plane.evidence.answered(asked, Source.SMALL, "yes")
    plane.evidence.near_miss(asked, b"scope", [near("yes")], "yes")
    plane.evidence.escalated(asked, "refusal", "no", "yes")
    assert plane.evidence.waiting == 0


async def test_what_does_not_fit_the_queue_is_left_out() -> None:
    """And counted; nobody waits."""
    plane = Plane()
    for _ in range(WAITING + 3):
        plane.evidence.near_miss(request(), b"scope", [near("yes")], "yes")
    assert (plane.evidence.waiting, plane.evidence.left_out) == (WAITING, 3)
    plane.evidence.near_miss(request(), b"scope", [near("x" * module.WAITING_BYTES)], "yes")
    assert plane.evidence.left_out == 4


async def test_nothing_is_judged_without_a_second_answer() -> None:
    """There may be no money for it."""
    plane = Plane(answer=None)
    plane.evidence.hit(request(), b"scope", near("yes"))
    assert await plane.judged() == []
    assert plane.events == []


async def test_what_people_say_of_a_hit_is_stored_taught_and_heeded_once() -> None:
    """An answer that somebody found wrong is removed. What nobody was served is not known."""
    plane = Plane(shares=Shares(hits=0.0, small=0.0, large=0.0))
    asked = request()
    plane.evidence.hit(asked, b"scope", near("yes"))
    for response_id in ("resp_other", asked.id, asked.id):
        plane.evidence.feedback(asked.tenant, response_id, Rating.DOWN)
    task = asyncio.create_task(plane.evidence.run())
    while len(plane.events) < 3:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    task.cancel()
    assert plane.events == ["stored", "taught 1", f"removed {asked.tenant} sem_1"]
    (found,) = plane.store.rows
    assert (found.sample.is_random, found.opinions[0].judge, found.opinions[0].says) == (
        False,
        "feedback",
        Says.DIFFERENT,
    )


async def test_what_is_not_on_disk_is_not_learned() -> None:
    """Nor is anything removed for it. It is kept until the disk takes it."""

    class Full(MemoryStore):
        full = True

        async def add(self, judged: Sequence[Judged], changes: Sequence[Change] = ()) -> None:
            if self.full:
                raise TimeoutError("the disk is full")
            await super().add(judged, changes)

    store = Full()
    plane = Plane(answer="no", store=store)
    plane.evidence.hit(request(), b"scope", near("yes"))
    assert await plane.judged() == []
    assert plane.events == []
    store.full = False
    plane.evidence.hit(request(), b"scope", near("yes"))
    assert len(await plane.judged()) == 2
    assert plane.events.count("removed anonymous sem_1") == 2


async def test_what_could_not_be_removed_is_removed_later() -> None:
    """Another process may be late to hear of it."""
    plane = Plane(answer="no", late=1)
    plane.evidence.hit(request(), b"scope", near("yes"))
    assert len(await plane.judged()) == 1
    assert plane.events == ["stored", "taught 1"]
    plane.evidence.hit(request(), b"scope", near("no"))
    await plane.judged()
    assert plane.events[2:] == ["stored", "taught 1", "removed anonymous sem_1"]


async def test_a_start_removes_what_was_found_wrong_before_a_process_died() -> None:
    store = MemoryStore()
    before = Plane(answer="no", store=store)
    before.evidence.hit(request(), b"scope", near("yes"))
    await before.judged()
    plane = Plane(store=store)
    await plane.evidence.begin(0.0)
    task = asyncio.create_task(plane.evidence.run())
    await until(lambda: plane.events == ["taught 1", "removed anonymous sem_1"])
    task.cancel()


async def test_a_sample_that_cannot_be_judged_takes_no_other_along() -> None:
    plane = Plane()
    plane.evidence.near_miss(request(prompt=Prompt(messages=())), b"scope", [near("yes")], "yes")
    plane.evidence.near_miss(request(), b"scope", [near("yes")], "yes")
    assert len(await plane.judged()) == 1


async def test_few_wait_for_a_model_that_does_not_answer() -> None:
    """What needs no call is judged beside them."""
    plane = Plane(late_answers=True)
    plane.evidence.near_miss(request(), b"scope", [near("yes")], "yes")
    for number in range(10):
        plane.evidence.hit(request(id=f"resp_{number}"), b"scope", near("yes"))
    task = asyncio.create_task(plane.evidence.run())
    await until(lambda: len(plane.asked) == ASKING)
    assert plane.evidence.waiting == 11
    plane.go_on.set()
    await until(lambda: len(plane.store.rows) == 11)
    task.cancel()


async def test_a_start_reads_hits_also_where_near_misses_are_many() -> None:
    """Each lever has its own share of what is read."""
    asked: list[tuple[Lever | None, int]] = []

    class Counting(MemoryStore):
        async def judged(self, lever: Lever | None, since: float, most: int, tenant: str | None = None) -> list[Judged]:
            asked.append((lever, most))
            return await super().judged(lever, since, most, tenant)

    await Plane(store=Counting()).evidence.begin(0.0)
    assert asked == [(lever, module.REMEMBERED) for lever in Lever]


async def test_what_cannot_be_removed_keeps_nothing_else_from_it() -> None:
    """One tenant's deletion may be late."""
    plane = Plane(answer="no")
    removed: list[str] = []

    async def remove(tenant: str, entry_ids: Sequence[str]) -> None:
        if tenant == "late":
            raise TimeoutError
        removed.append(tenant)

    plane.evidence._remove = remove
    for tenant in ("late", "acme"):
        plane.evidence.hit(request(tenant=tenant), b"scope", near("yes"))
    assert len(await plane.judged()) == 2
    assert removed == ["acme"]


async def test_it_waits_while_many_requests_run() -> None:
    """And goes on once they do not."""
    busy = [True, True, True]
    plane = Plane(is_busy=lambda: bool(busy) and busy.pop())
    plane.evidence.near_miss(request(), b"scope", [near("yes")], "yes")
    assert len(await plane.judged()) == 1
    assert busy == []
