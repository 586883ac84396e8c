"""Single flight: identical requests that share one generation."""

import asyncio
import gc
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from millrace.errors import MillraceError, UpstreamError
from millrace.funnel.bill import NOTHING, Bill
from millrace.funnel.ending import Result
from millrace.funnel.facts import Committed, Ended, Fact, Metered, Revised, Routed, Started
from millrace.funnel.flight import Flight
from millrace.funnel.open_charge import OpenCharge
from millrace.funnel.response_log import ResponseLog
from millrace.types import (
    CacheOutcome,
    Call,
    CallPiece,
    Entry,
    FinishReason,
    Outcome,
    Refusal,
    Source,
    Status,
    Strategy,
    Thought,
    Tier,
    Usage,
)
from tests.support.clock import ManualClock
from tests.support.logs import captured_logs
from tests.support.manual_attempt import ManualAttempt
from tests.support.scripted_models import LARGE, SMALL, request
from tests.support.subscriber import RecordingSubscriber
from tests.support.waiting import turns

GOOD_CALL = (CallPiece(index=0, id="call_1", name="depth", arguments='{"of":'), CallPiece(index=0, arguments='"it"}'))
ROUTED = Routed(strategy=Strategy.CASCADE, model="small-model", reason="short", tier=Tier.SMALL)
REVISED = Revised(from_model="small-model", to_model="large-model", reason="unsure")
ENDED = Ended(status=Status.COMPLETED, statement=NOTHING)
RESULT = Result(source=Source.SMALL, model="small-model", usage=Usage(), finish=FinishReason.STOP)
INPUT_TOKENS = 10
WORD = " mill"  # one token, however many follow each other


class RecordingLedger:
    """Keeps the entries."""

    wants_progress = False

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def opened(self, entry: Entry) -> None:
        self.entries.append(entry)

    def progressed(self, entry: Entry) -> None:
        raise AssertionError(entry)

    def settled(self, entry: Entry) -> None:
        """Never here: the caller of a flight settles."""
        raise AssertionError(entry)


class JoiningRequest:
    """One request that joins a flight: its log, its bill, a listener, and the task that waits for the result."""

    def __init__(self, ledger: RecordingLedger, number: int) -> None:
        asked = request(id=f"resp_{number}")
        self.response = ResponseLog(asked, ManualClock())
        self.listener = RecordingSubscriber()
        self.response.subscribe(self.listener)
        self.bill = Bill(asked, LARGE.price, ledger, 0.0)
        self.bill.input_tokens = INPUT_TOKENS
        self.task: asyncio.Task[Result]

    @property
    def usage(self) -> list[tuple[int, int, Outcome]]:
        """Input tokens, output tokens and outcome of each charge."""
        charges = self.bill.statement().charges
        return [(charge.usage.input_tokens, charge.usage.output_tokens, charge.outcome) for charge in charges]


class SharedGeneration:
    """One flight, whose call a test plays by hand, and the requests that join it."""

    def __init__(self) -> None:
        self.ledger = RecordingLedger()
        self.attempt = ManualAttempt()
        self.charge: OpenCharge | None = None
        self.started = 0
        self.ended: list[Flight] = []
        self.requests: list[JoiningRequest] = []
        leader = self.request()
        self.flight = Flight(leader.response, self.work, self.ended.append)

    def request(self) -> JoiningRequest:
        self.requests.append(JoiningRequest(self.ledger, len(self.requests)))
        return self.requests[-1]

    async def work(self, response: ResponseLog, flight: Flight) -> Result:
        """Make one call, as a stage of the funnel does."""
        self.started += 1
        response.route(ROUTED)
        self.charge = flight.open(Call(model=SMALL, prompt=response.request.prompt), self.attempt)
        response.attach(self.attempt)
        try:
            await self.attempt.done
        except asyncio.CancelledError:
            await turns(5)  # closing takes a while
            self.charge.outcome = Outcome.CANCELLED
            raise
        self.charge.outcome = Outcome.ANSWERED
        return RESULT

    async def join(self, joining: JoiningRequest | None = None) -> JoiningRequest:
        """Let a request join; return when the call is under way."""
        joining = joining or self.request()
        joining.task = asyncio.create_task(self.flight.join(joining.response, joining.bill))
        await turns(2)
        return joining

    async def leave(self, leaving: JoiningRequest) -> None:
        leaving.task.cancel()
        await asyncio.wait((leaving.task,))
        assert leaving.task.cancelled()


@pytest.fixture
async def generation() -> AsyncIterator[SharedGeneration]:
    """A flight with its first participant, whose call is open."""
    generation = SharedGeneration()
    await generation.join(generation.requests[0])
    yield generation
    tasks = [each.task for each in generation.requests if hasattr(each, "task")]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# What is passed on


async def test_who_rides_along_gets_what_is_no_text(generation: SharedGeneration) -> None:
    """Reasoning, refusals and calls are passed on like words, in order."""
    joined = await generation.join()
    said: list[Any] = [Thought("a"), Refusal("b"), *GOOD_CALL]
    for aside in said:
        generation.attempt.read_aside(aside)
    assert joined.listener.facts[1:] == said
    assert joined.response.message().calls == generation.requests[0].response.message().calls != ()


async def test_the_words_are_kept_once(generation: SharedGeneration) -> None:
    """In the log of the flight, while it runs; who leaves takes what came until then."""
    joined = await generation.join()
    generation.attempt.read("a", "b")
    assert generation.flight.response.facts == [ROUTED, "a", "b"]
    assert joined.response.facts == generation.requests[0].response.facts == []
    assert joined.response.message().text == "ab"
    size = joined.response.size
    await generation.leave(joined)
    assert joined.response.facts == [ROUTED.joined(), "a", "b"]
    assert joined.response.size == size
    generation.attempt.read("c")
    assert joined.response.message().text == "ab"


@pytest.mark.parametrize("at_fault", [0, 1, 2])
async def test_a_participant_at_fault_ends_alone(
    generation: SharedGeneration, monkeypatch: pytest.MonkeyPatch, at_fault: int
) -> None:
    """Also the one who pays: the next one pays the rest, and each call is on one bill."""
    await generation.join()
    await generation.join()
    broken = generation.requests[at_fault]

    def raising(response: ResponseLog, deltas: list[str]) -> None:
        if response is broken.response:
            raise RuntimeError("broken")
        whole(response, deltas)

    generation.attempt.read("a")
    whole = ResponseLog._show_text
    monkeypatch.setattr(ResponseLog, "_show_text", raising)
    with captured_logs():
        generation.attempt.read("b")
    monkeypatch.undo()
    with pytest.raises(MillraceError) as raised:
        await broken.task
    assert raised.value.code == "internal_error"
    generation.attempt.read("c")
    generation.attempt.finish(Usage(input_tokens=INPUT_TOKENS, output_tokens=3))
    others = [each for each in generation.requests if each is not broken]
    for each in others:
        await each.task
        assert each.listener.facts[1:] == ["a", "b", "c"]
    assert broken.listener.facts[1:] == ["a"]
    billed = [charge.usage.output_tokens for each in generation.requests for charge in each.bill.statement().charges]
    assert sum(billed) == 3
    assert generation.started == 1


@pytest.mark.parametrize("is_at_once", [False, True])
async def test_a_participant_at_fault_that_is_alone_has_no_answer(
    monkeypatch: pytest.MonkeyPatch, *, is_at_once: bool
) -> None:
    """Nor if the generation has ended before it learns of it, as that of an answer from a cache."""
    generation = SharedGeneration()
    whole = ResponseLog._show_text
    (alone,) = generation.requests

    def raising(response: ResponseLog, deltas: list[str]) -> None:
        if response is alone.response:
            raise RuntimeError("broken")
        whole(response, deltas)

    async def at_once(response: ResponseLog, _: Flight) -> Result:
        response.write(["a"])
        return RESULT

    monkeypatch.setattr(ResponseLog, "_show_text", raising)
    if is_at_once:
        generation.flight = Flight(alone.response, at_once, generation.ended.append)
    with captured_logs():
        await generation.join(alone)
        generation.attempt.read("a")
        with pytest.raises(MillraceError) as raised:
            await alone.task
    assert raised.value.code == "internal_error"
    assert generation.flight._task is None or generation.flight._task.done()


async def test_all_participants_get_the_same_words_and_facts_whenever_they_join(generation: SharedGeneration) -> None:
    """From the first word on; only how they were routed differs: the others joined."""
    generation.attempt.read("a", "b")
    generation.attempt.read_aside(Thought("hm"))
    early = await generation.join()
    generation.attempt.read("c")
    generation.flight.response.revise(REVISED)
    late = await generation.join()
    generation.flight.response.write(["d"])
    generation.flight.response.commit()
    generation.attempt.finish()
    results = [await joined.task for joined in generation.requests]
    shared: list[Fact | str] = ["a", "b", Thought("hm"), "c", REVISED, "d", Committed()]
    assert generation.requests[0].listener.facts == [ROUTED, *shared]
    assert early.listener.facts == late.listener.facts == [ROUTED.joined(), *shared]
    assert [result.cache for result in results] == [CacheOutcome.MISS, CacheOutcome.JOINED, CacheOutcome.JOINED]
    assert {result.model for result in results} == {"small-model"}
    assert [each.response.cache for each in generation.requests] == [result.cache for result in results]


async def test_the_start_the_usage_and_the_end_of_a_request_are_its_own(generation: SharedGeneration) -> None:
    """Each request has its own start, its own bill and exactly one terminal (PROTOCOL.md, What always holds, 1)."""
    leader, joined = generation.requests[0], await generation.join()
    joined.response.start()
    joined.response.meter(NOTHING)
    generation.attempt.read("a")
    generation.attempt.finish()
    await joined.task
    joined.response.end(ENDED)
    assert joined.listener.facts == [ROUTED.joined(), Started(), "a", ENDED]
    assert Metered(NOTHING) in joined.listener.calls
    assert Metered(NOTHING) not in leader.listener.calls
    assert leader.listener.facts == [ROUTED, "a"]
    assert generation.flight.response.facts == [ROUTED, "a"]


async def test_one_call_is_made_for_all(generation: SharedGeneration) -> None:
    for _ in range(3):
        await generation.join()
    generation.attempt.finish()
    await asyncio.gather(*(joined.task for joined in generation.requests))
    assert generation.started == 1
    assert [len(joined.bill.statement().charges) for joined in generation.requests] == [1, 0, 0, 0]


async def test_who_joins_a_flight_that_has_just_ended_gets_all_of_it(generation: SharedGeneration) -> None:
    generation.attempt.read("a")
    generation.attempt.finish()
    await generation.requests[0].task
    late = await generation.join()
    assert (await late.task).cache is CacheOutcome.JOINED
    assert late.listener.facts == [ROUTED.joined(), "a"]
    assert late.usage == []


async def test_a_call_that_fails_fails_for_all(generation: SharedGeneration) -> None:
    joined = await generation.join()
    generation.attempt.fail()
    for each in (generation.requests[0], joined):
        with pytest.raises(UpstreamError, match="it broke"):
            await each.task
    assert generation.ended == [generation.flight]


async def test_a_flight_reads_on_while_one_of_its_listeners_keeps_up(generation: SharedGeneration) -> None:
    """A participant is behind when all who listen to it are; who leaves has no vote any more."""
    leader = generation.requests[0]
    joined = await generation.join()
    leader.listener.congested = True
    leader.response.apply_backpressure()
    assert (leader.response.paused, generation.attempt.steps) == (True, [])
    joined.listener.congested = True
    joined.response.apply_backpressure()
    assert generation.attempt.steps == ["pause"]
    leader.listener.congested = False
    leader.response.apply_backpressure()
    assert generation.attempt.steps == ["pause", "resume"]
    await generation.leave(leader)
    assert generation.attempt.steps == ["pause", "resume", "pause"]


async def test_a_participant_that_nobody_listens_to_is_never_behind(generation: SharedGeneration) -> None:
    """It may run on under `on_disconnect: detach`."""
    leader = generation.requests[0]
    leader.listener.congested = True
    leader.response.apply_backpressure()
    assert generation.attempt.steps == ["pause"]
    leader.response.unsubscribe(leader.listener)
    assert generation.attempt.steps == ["pause", "resume"]


# Who pays


async def test_who_leaves_while_another_pays_owes_nothing(generation: SharedGeneration) -> None:
    joined = await generation.join()
    generation.attempt.read("a")
    await generation.leave(joined)
    generation.attempt.read("b")
    generation.attempt.finish(Usage(input_tokens=INPUT_TOKENS, output_tokens=2))
    await generation.requests[0].task
    assert (joined.usage, joined.listener.facts) == ([], [ROUTED.joined(), "a"])
    assert generation.requests[0].usage == [(INPUT_TOKENS, 2, Outcome.ANSWERED)]


async def test_who_pays_and_leaves_owes_what_came_until_then_and_the_heir_the_rest(
    generation: SharedGeneration,
) -> None:
    """Also over two heirs; together they pay the call, once (PROTOCOL.md, What always holds, 5)."""
    leader, heir, last = generation.requests[0], await generation.join(), await generation.join()
    generation.attempt.read(WORD, WORD)
    await generation.leave(leader)
    generation.attempt.read(WORD)
    await generation.leave(heir)
    generation.attempt.read(WORD, WORD, WORD)
    generation.attempt.finish(Usage(input_tokens=INPUT_TOKENS + 1, output_tokens=6))
    await last.task
    assert leader.usage == [(INPUT_TOKENS, 2, Outcome.CANCELLED)]
    assert heir.usage == [(0, 1, Outcome.CANCELLED)]
    assert last.usage == [(1, 3, Outcome.ANSWERED)]
    assert [entry.request_id for entry in generation.ledger.entries] == ["resp_0", "resp_1", "resp_2"]
    paid = sum((each.bill.statement().cost for each in generation.requests), Decimal(0))
    assert paid == ((INPUT_TOKENS + 1) * SMALL.price.input + 6 * SMALL.price.output) / 10**6
    assert leader.listener.facts == [ROUTED, WORD, WORD]


async def test_a_new_call_is_paid_by_whoever_pays_now(generation: SharedGeneration) -> None:
    """So is the question what it may cost."""
    heir = await generation.join()
    await generation.leave(generation.requests[0])
    call = Call(model=LARGE, prompt=generation.flight.response.request.prompt)
    assert generation.flight.affordable(call) is None
    generation.flight.open(call, ManualAttempt())
    assert [charge.model for charge in heir.bill.statement().charges] == ["small-model", "large-model"]
    assert [charge.model for charge in generation.requests[0].bill.statement().charges] == ["small-model"]


async def test_the_budget_of_a_shared_call_is_the_payers(generation: SharedGeneration) -> None:
    """Requests with a budget do not share a flight; the question goes to the payer's bill all the same."""
    payer = generation.requests[0]
    budget = Bill(request(max_cost=Decimal("0.0001")), LARGE.price, generation.ledger, 0.0)
    generation.flight._payer = budget
    call = Call(model=SMALL, prompt=payer.response.request.prompt)
    assert generation.flight.affordable(call) == budget.affordable(call)
    assert generation.flight.affordable(call) is not None


async def test_a_call_that_fails_while_the_last_one_leaves_is_still_the_last_ones(generation: SharedGeneration) -> None:
    """What it would cost to ask elsewhere is asked before the work is cancelled."""
    last = generation.requests[0]
    await generation.leave(last)
    assert generation.flight.affordable(Call(model=SMALL, prompt=last.response.request.prompt)) is None


async def test_a_call_that_has_ended_is_not_handed_over(generation: SharedGeneration) -> None:
    """It is over before its payer leaves: the payer owes all of it."""
    leader, joined = generation.requests[0], await generation.join()
    generation.attempt.read("a")
    generation.attempt.finish(Usage(input_tokens=INPUT_TOKENS, output_tokens=1))
    await asyncio.gather(leader.task, joined.task)
    assert (leader.usage, joined.usage) == ([(INPUT_TOKENS, 1, Outcome.ANSWERED)], [])


async def test_a_payer_who_leaves_just_when_the_call_ends_owes_all_of_it(generation: SharedGeneration) -> None:
    leader, joined = generation.requests[0], await generation.join()
    generation.attempt.finish(Usage(input_tokens=INPUT_TOKENS, output_tokens=1))
    await turns(1)  # the work has ended; nobody has been woken by it
    await generation.leave(leader)
    assert (await joined.task).cache is CacheOutcome.JOINED
    assert (leader.usage, joined.usage) == ([(INPUT_TOKENS, 1, Outcome.ANSWERED)], [])


# The last one leaves


async def test_when_the_last_participant_leaves_the_call_is_cancelled(generation: SharedGeneration) -> None:
    """The last to leave returns when the call has closed, and its bill says so."""
    leader, last = generation.requests[0], await generation.join()
    generation.attempt.read(WORD, WORD)
    await generation.leave(last)
    assert generation.ended == []
    await generation.leave(leader)
    assert generation.attempt.done.cancelled()
    assert leader.usage == [(INPUT_TOKENS, 2, Outcome.CANCELLED)]
    assert generation.ended
    assert {*generation.ended} == {generation.flight}


async def test_a_flight_is_gone_before_its_call_has_closed(generation: SharedGeneration) -> None:
    """A request that comes in between must not join a call that is being cancelled."""
    gone_when_closed: list[bool] = []
    generation.attempt.done.add_done_callback(
        lambda _: gone_when_closed.append(generation.ended == [generation.flight])
    )
    await generation.leave(generation.requests[0])
    assert gone_when_closed == [True]


async def test_a_call_may_fail_while_the_last_one_leaves(generation: SharedGeneration) -> None:
    """The one that leaves is cancelled all the same, and the error does not become a traceback in the log."""
    unretrieved: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unretrieved.append(context["message"]))
    leader = generation.requests[0]
    generation.attempt.fail()
    await turns(1)  # the work has failed; nobody has been woken by it
    await generation.leave(leader)
    assert generation.ended == [generation.flight]
    generation.flight._task = None
    del leader.task  # nothing refers to the failed task any more
    gc.collect()
    assert unretrieved == []


async def test_a_flight_that_ends_is_said_to_have_ended(generation: SharedGeneration) -> None:
    generation.attempt.finish()
    await generation.requests[0].task
    assert generation.ended == [generation.flight]
