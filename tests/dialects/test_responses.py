"""The Responses dialect: what a projection that is made late still shows."""

from millrace.dialects.responses import ResponsesProjection
from millrace.funnel.bill import NOTHING
from millrace.funnel.facts import Ended
from millrace.funnel.response_log import ResponseLog
from millrace.types import Source, Status
from millrace.wire import responses as wire
from tests.support.scripted_models import request


def test_a_projection_that_is_made_late_shows_the_final_usage() -> None:
    """Also where others were shown a usage within the last second; they are not shown another."""
    response = ResponseLog(request(), lambda: 0.0)
    early = ResponsesProjection(response, 0, negotiated=True)
    response.subscribe(early)
    response.start()
    response.meter(NOTHING)
    late = ResponsesProjection(response, 0, negotiated=True)
    response.subscribe(late)
    response.end(Ended(status=Status.COMPLETED, source=Source.SMALL, statement=NOTHING))
    for projection in (early, late):
        events = [*projection.event_log.written, *projection.event_log._waiting]
        assert sum(isinstance(event, wire.UsageSoFar) for event in events) == 1
