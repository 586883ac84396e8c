"""What people say of answers: kept once for each response and key, and a bad answer leaves the caches at once."""

from millrace.errors import MillraceError
from millrace.evidence.evidence import Evidence
from millrace.funnel.routing.router import Router
from millrace.ports import CacheControl, Clock, EndedRequests, FeedbackStore
from millrace.principal import Principal
from millrace.types import Deleted, Feedback, Rating


class Feedbacks:
    """Takes feedback on the responses of a tenant, also on those that nobody keeps any more."""

    def __init__(
        self,
        ended: EndedRequests,
        store: FeedbackStore,
        cache: CacheControl,
        evidence: Evidence | None,  # None: nothing is judged
        wall: Clock,
        router: Router | None = None,  # None: it learns nothing
    ) -> None:
        self._ended = ended
        self._store = store
        self._cache = cache
        self._evidence = evidence
        self._wall = wall
        self._router = router

    async def give(self, principal: Principal, response_id: str, rating: Rating, *, has_better: bool) -> Deleted:
        """Keep what somebody says of a response; return what was deleted of it from the caches.

        Raises `response_not_found`, `feedback_exists`, or `overloaded` if the disk or another process is late: then the
        same may be said again.
        """
        deleted = Deleted(exact=0, semantic=0, number=0)
        try:
            answered = await self._ended.answered(principal.tenant, response_id)
            if answered is None:
                message = f"{response_id[:80]!r} is not a response of yours that has ended"
                raise MillraceError("response_not_found", message, param="response_id")
            given = await self._store.has_feedback(principal.tenant, response_id, principal.key_id)
            # Before it is kept, so that a repeat after a failure does it again.
            if rating is Rating.DOWN and answered.entry_ids and not given:
                deleted = await self._cache.delete(answered.entry_ids, tenant=principal.tenant)
            feedback = Feedback(
                tenant=principal.tenant,
                response_id=response_id,
                key_id=principal.key_id,
                rating=rating,
                has_better=has_better,
                at=self._wall(),
            )
            is_first = not given and await self._store.add_feedback(feedback)
        except TimeoutError:
            message = "the feedback could not be kept in time; send it again"
            raise MillraceError("overloaded", message, retry_after_ms=1000) from None
        if not is_first:
            message = f"this key has given its feedback on {response_id[:80]!r}; it counts once"
            raise MillraceError("feedback_exists", message, param="response_id")
        if self._evidence is not None and principal.evidence:
            self._evidence.feedback(principal.tenant, response_id, rating)
        if self._router is not None and principal.evidence:
            self._router.feedback(principal.tenant, response_id, rating)
        return deleted
