"""Facts of a response, as the tests of the dialects tell them."""

from millrace.funnel.bill import NOTHING
from millrace.funnel.facts import Ended, Revised
from millrace.types import CacheOutcome, CallPiece, Source, Status

REVISED = Revised(from_model="small-model", to_model="large-model", reason="weak")
DONE_WELL = Ended(
    status=Status.COMPLETED,
    model="small-model",
    source=Source.SMALL,
    cache=CacheOutcome.MISS,
    check="passed",
    statement=NOTHING,
)
CALL = (CallPiece(index=0, id="c1", name="f", arguments='{"a"'), CallPiece(index=0, arguments=":1}"))
OTHER_CALL = CallPiece(index=1, id="c2", name="g", arguments="{}")
