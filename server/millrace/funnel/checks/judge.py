"""The verdict of the checks on an answer."""

from collections.abc import Iterable

from millrace.funnel.checks.candidate import Candidate
from millrace.funnel.checks.form import Form
from millrace.funnel.checks.table import CHECKS, NAMES
from millrace.ports import SchemaValidator
from millrace.types import Request, Verdict


def selected(request: Request) -> tuple[str, ...]:
    """Return the names of the checks that run for a request, cheapest first: those it names, else all.

    A `check_schema` adds `form`.
    """
    if request.checks is None:
        return NAMES
    wanted = {*request.checks, *(("form",) if request.check_schema is not None else ())}
    return tuple(name for name in NAMES if name in wanted)


async def judge(candidate: Candidate, schemas: SchemaValidator, names: Iterable[str] = NAMES) -> Verdict:
    """Judge a complete answer by the named checks."""
    form = Form(schemas, candidate.tenant, candidate.unchecked)
    for check in (CHECKS[name] for name in names):
        if not check.is_about(candidate):
            continue
        if check.breaks is not None:
            reason = await check.breaks(candidate, form)
        else:
            reason = check.fails(candidate) if check.fails is not None else ""
        if reason:
            return Verdict(check=check.name, reason=reason)
    return Verdict()


def judge_beginning(candidate: Candidate, names: Iterable[str] = NAMES) -> Verdict:
    """Judge the beginning of an answer that is not complete."""
    for check in (CHECKS[name] for name in names):
        if check.of_a_beginning is not None and check.is_about(candidate):
            reason = check.of_a_beginning(candidate)
            if reason:
                return Verdict(check=check.name, reason=reason)
    return Verdict()
