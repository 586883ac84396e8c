"""What is done with a request as a budget of it runs out: small alone is asked, and at last no model at all.

An answer that was stored before is as good as ever, so the caches are asked first as the request came, and only then
as one for the small model. Nothing that the small model says in place of another is stored under that one's name.
"""

from msgspec.structs import replace

from millrace.errors import MillraceError
from millrace.funnel.catalog import Catalog
from millrace.funnel.fingerprint import Keys
from millrace.funnel.recall import Recall
from millrace.funnel.response_log import ResponseLog
from millrace.funnel.routing.pins import bound_to
from millrace.ports.flights import Lease
from millrace.types import CacheMode, Request, StoredAnswer, Strategy
from millrace.types.budget import Step


async def looked_up(
    recall: Recall, response: ResponseLog, catalog: Catalog
) -> tuple[Keys, StoredAnswer | Lease | None]:
    """Return a request's keys, and the stored answer to it, or who leads its flight; see `Recall.exact`.

    Near the end of a budget it becomes a cheaper one. Raises `budget_exceeded` if nobody is left who may answer it.
    """
    request, budget = response.request, response.request.budget
    if budget is not None and budget.step is Step.CACHE:
        if request.cache not in (CacheMode.ON, CacheMode.ONLY):
            raise no_answer(request)
        request = response.request = replace(request, cache=CacheMode.ONLY)
    becomes_small = budget is not None and budget.step is Step.SMALL and request.strategy is not Strategy.SMALL
    keys = await recall.keys(request)
    found = await recall.exact(request, keys, may_lead=not becomes_small)
    if found is not None or not becomes_small:
        return keys, found
    check_small(request, catalog)
    request = response.request = replace(request, strategy=Strategy.SMALL)
    keys = await recall.keys(request)
    return keys, await recall.exact(request, keys)


def check_small(request: Request, catalog: Catalog) -> None:
    """Raise `budget_exceeded` for a request that only another model than the small one can answer."""
    bound = bound_to(request.prompt, catalog)
    if bound is not None and bound[0] is catalog.large:
        why = f"this request goes to {catalog.large.id} alone ({bound[1]})"
    elif not catalog.fits_small(request):
        why = f"{request.counted_for(catalog.small).input_tokens} tokens do not fit {catalog.small.id}"
    else:
        return
    raise exceeded(request, f"only {catalog.small.id} is asked from here on, and {why}")


def exceeded(request: Request, why: str) -> MillraceError:
    """Return the error of a request that its budget leaves no way to answer."""
    assert request.budget is not None, "it has one"
    return MillraceError("budget_exceeded", f"{request.budget.said}: {why}")


def no_answer(request: Request) -> MillraceError:
    """Return the error of a request that only the caches may answer, and that none of them has answered."""
    if request.budget is not None and request.budget.step is Step.CACHE:
        return exceeded(request, "only the caches answer from here on, and they have no answer to this request")
    message = "millrace.cache: no cached answer matches this request; use 'on' to call a model"
    return MillraceError("response_not_found", message)
