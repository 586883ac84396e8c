"""Tells evidence and the router what became of a request. None of it may fail the request, or have it wait."""

from millrace import log
from millrace.errors import EXITS
from millrace.evidence.evidence import Evidence
from millrace.funnel.catalog import Catalog
from millrace.funnel.ending import Result
from millrace.funnel.facts import Ended
from millrace.funnel.fingerprint import Keys, Scope
from millrace.funnel.routing.choice import Choice
from millrace.funnel.routing.pins import bound_to
from millrace.funnel.routing.router import Router
from millrace.types import Answer, Request, SemanticHit, SemanticMiss, Source, Strategy


class Sampling:
    """What the funnel has to tell: hits, and answers of models beside those that might have done instead."""

    def __init__(self, catalog: Catalog, router: Router, evidence: Evidence | None = None) -> None:
        self.evidence = evidence  # None: nothing is judged
        self._catalog = catalog
        self.router = router

    def hit(self, request: Request, keys: Keys, hit: SemanticHit) -> None:
        """Tell of a stored answer that is served to a near question."""
        if self.evidence is None or not isinstance(keys.scope, Scope):
            return
        with _guarded(request):
            self.evidence.hit(request, keys.scope.digest, hit.near)

    def answer(self, request: Request, keys: Keys, miss: SemanticMiss | None, choice: Choice, result: Result) -> None:
        """Tell the router what the checks say of the answers, and evidence of one that is whole and passed them."""
        if result.answer is not None and result.answer.model.stands_in:
            return  # it says nothing of the two
        if choice.advice is not None and result.verdicts:
            with _guarded(request):
                self.router.judged(request, choice.advice, result.verdicts)
        if self.evidence is None or result.answer is None:
            return
        with _guarded(request):
            self._tell(self.evidence, request, choice, result, result.answer)
            if miss is not None and miss.near and isinstance(keys.scope, Scope):
                self.evidence.near_miss(request, keys.scope.digest, miss.near, result.answer.text)

    def settled(self, request: Request, ended: Ended) -> None:
        """Tell the router what a request has cost, once it has ended."""
        with _guarded(request):
            self.router.spent(request, ended.statement)

    def _tell(self, evidence: Evidence, request: Request, choice: Choice, result: Result, answer: Answer) -> None:
        prompt = choice.advice.features if choice.advice else b""
        if result.source is Source.SMALL:
            evidence.answered(request, Source.SMALL, answer.text, prompt)
        elif result.taken_back is not None and result.check is not None:
            evidence.escalated(request, result.check, result.taken_back, answer.text, prompt)
        elif choice.strategy is Strategy.LARGE and choice.passed_over is None and self._small_might_do(request):
            evidence.answered(request, Source.LARGE, answer.text, prompt)

    def _small_might_do(self, request: Request) -> bool:
        """Whether the small model could have been asked too."""
        return self._catalog.fits_small(request) and bound_to(request.prompt, self._catalog) is None


class _guarded:  # noqa: N801 - used like a function
    """Log what is raised, and go on. Twice per request, which is why it is no generator."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if error is None or isinstance(error, EXITS):
            return False
        log.get().error("what became of it was not told", id=self._request.id, exc_info=error)
        return True
