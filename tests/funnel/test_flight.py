"""Single flight: identical requests that share one generation."""

from typing import Any

from millrace.funnel.flight import Participant
from millrace.funnel.response_log import ResponseLog, Routed
from millrace.types import (
    CacheOutcome,
    CallPiece,
    Refusal,
    Strategy,
    Thought,
)
from tests.support.scripted_models import request

GOOD_CALL = (CallPiece(index=0, id="call_1", name="depth", arguments='{"of":'), CallPiece(index=0, arguments='"it"}'))


def test_who_rides_along_gets_what_is_no_text() -> None:
    """Reasoning, refusals and calls are passed on like words, in order."""
    response = ResponseLog(request(), lambda: 0.0)
    flight: Any = None
    participant = Participant(flight, response, Any, CacheOutcome.JOINED)  # type: ignore[arg-type]
    said: list[Any] = [Thought("a"), Refusal("b"), *GOOD_CALL]
    for fact in said:
        participant.fact(fact)
    participant.fact(Routed(strategy=Strategy.AUTO, model="m", reason="r"))
    assert response.facts[:-1] == said
