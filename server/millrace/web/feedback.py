"""The endpoint for feedback on a response."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from millrace.types import Rating
from millrace.web.endpoints import opened
from millrace.web.process import principal_of, process_of
from millrace.wire.documents import FeedbackAnswer, FeedbackDeleted, FeedbackRequest
from millrace.wire.reading import convert, decode

MAX_BODY = 256 * 1024  # bytes, with a better answer


async def give(request: Request) -> Response:
    """`POST /v1/responses/{id}/feedback`: once for each response and key."""
    response_id = request.path_params["id"]
    given = await opened(request, MAX_BODY, lambda body: convert(decode(body, "the body"), FeedbackRequest))
    deleted = await process_of(request).feedbacks.give(
        principal_of(request), response_id, Rating(given.rating), has_better=bool(given.better)
    )
    answer = FeedbackAnswer(
        id=response_id, rating=given.rating, deleted=FeedbackDeleted(deleted.exact, deleted.semantic)
    )
    return Response(msgspec.json.encode(answer), headers={"Cache-Control": "no-store"}, media_type="application/json")
