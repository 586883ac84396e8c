"""What a call needs goes away with it: nothing waits for the collector, which stops all streams while it looks."""

import gc
from collections.abc import Iterator

import pytest

from millrace.funnel.bill import Bill
from millrace.funnel.contender import Contender
from millrace.funnel.flight import Flight
from millrace.funnel.open_charge import OpenCharge
from millrace.funnel.tries import Tries
from millrace.types import CacheMode, Message, Strategy
from tests.support.scripted_models import STOP, request, scripted_funnel

OF_A_CALL = Bill, OpenCharge, Contender, Flight, Tries


@pytest.fixture
def before() -> Iterator[set[int]]:
    """What other tests left is not this test's: a failed one keeps its objects in its report."""
    gc.collect()
    gc.disable()
    yield {id(one) for one in gc.get_objects() if isinstance(one, OF_A_CALL)}
    gc.enable()


@pytest.mark.untraced
@pytest.mark.parametrize("cache", [CacheMode.ON, CacheMode.OFF])
@pytest.mark.parametrize("strategy", [Strategy.SMALL, Strategy.LARGE, Strategy.CASCADE])
async def test_a_request_that_has_ended_leaves_nothing_of_its_calls(
    strategy: Strategy, cache: CacheMode, before: set[int]
) -> None:
    async with scripted_funnel(small=["An answer.", STOP], large=["Another one.", STOP]) as funnel:
        for number in range(3):
            question = Message(role="user", parts=(f"What is {number}?",))
            await funnel.ask(request(question, strategy=strategy, cache=cache))
        after = [one for one in gc.get_objects() if isinstance(one, OF_A_CALL)]
        left = [type(one).__name__ for one in after if id(one) not in before]
    assert left == []
