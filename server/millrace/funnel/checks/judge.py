"""The verdict of the checks on an answer.

The verdict names the first check that fails and may take an answer back; on a request's way nothing looks at it after
that, nor what may not take it back. Where answers are measured, all checks that need nothing but the text look at it:
so it becomes known of each what it catches, and the learned check has all that they say.
"""

from collections.abc import Collection, Iterable
from functools import lru_cache

from msgspec import Struct

from millrace.funnel.checks import code
from millrace.funnel.checks.candidate import Candidate
from millrace.funnel.checks.check import Check, Fails, Kind, Needs, met
from millrace.funnel.checks.form import Form
from millrace.funnel.checks.table import CHECKS, NAMES
from millrace.funnel.offload import in_thread_if_over
from millrace.ports import SchemaValidator
from millrace.types import Request, Verdict

ON_LOOP = 2000  # characters of a question and an answer that are read on the event loop: some 0.7 ms
EQUATION = 300  # characters that take as long as an equation
LISTS = 256  # of checks that are kept: they depend on the names, on what evidence says and on what answers meet
NONE: frozenset[str] = frozenset()


class Standing(Struct, frozen=True):
    """What evidence says of the checks of a tenant."""

    off: frozenset[str] = NONE  # that do not separate wrong answers from right ones
    proven: frozenset[str] = NONE  # soft ones that do

    def acts(self, name: str) -> bool:
        """Whether an answer is taken back that fails the check."""
        check = CHECKS.get(name)
        if check is not None and check.kind is Kind.HARD:
            return True
        return name in self.proven if check is not None and check.kind is Kind.SOFT else name not in self.off


AS_SHIPPED = Standing()


def selected(request: Request, available: Iterable[str] = NAMES) -> tuple[str, ...]:
    """Return the names of the checks that run for a request, cheapest first: those it names, else all.

    A schema or a pattern of its own adds `form` or `pattern`.
    """
    if request.checks is None:
        return usual(available)
    wanted = {*request.checks}
    if request.check_schema is not None:
        wanted.add("form")
    if request.check_pattern is not None:
        wanted.add("pattern")
    return tuple(name for name in available if name in wanted)


def usual(available: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the checks that run for a request that names none."""
    return tuple(name for name in available if name not in _ONLY_IF_NAMED)


_ONLY_IF_NAMED = frozenset(check.name for check in CHECKS.values() if check.only_if_named)


async def judge(
    candidate: Candidate,
    schemas: SchemaValidator,
    names: Collection[str] = NAMES,
    standing: Standing = AS_SHIPPED,
    *,
    measures: bool = True,
) -> Verdict:
    """Judge a complete answer by the named checks of the table.

    `measures`: all of them look at the text, and the verdict's features say of each whether it fails: 1 or 0.
    """
    names = tuple(names)

    def read() -> dict[str, str]:
        return reasons(candidate, names) if measures else first_reason(candidate, names, standing)

    found = await in_thread_if_over(ON_LOOP, work_of(candidate), read)
    features = {name: float(bool(reason)) for name, reason in found.items()} if measures else {}
    for name, reason in found.items():
        if reason and standing.acts(name):
            return Verdict(check=name, reason=reason, features=features)
    if candidate.is_declared:
        form, needs = Form(schemas, candidate.tenant, candidate.unchecked), met(candidate)
        for check in _named(names):
            if check.breaks is not None and check.is_about(needs):
                reason = await check.breaks(candidate, form)
                if reason:
                    return Verdict(check=check.name, reason=reason, features=features)
    return Verdict(features=features)


def work_of(candidate: Candidate) -> int:
    """Return how long an answer takes to be read, in characters of plain text."""
    equations = EQUATION * candidate.text.count("=")
    return len(candidate.text) + len(candidate.question) + equations + (ON_LOOP if code.is_slow(candidate) else 0)


def reasons(candidate: Candidate, names: Iterable[str]) -> dict[str, str]:
    """Return why an answer fails the named checks that need nothing but the text; empty where it passes."""
    return {name: fails(candidate) for name, fails in _of_text(tuple(names), None, met(candidate))}


def first_reason(candidate: Candidate, names: Iterable[str], standing: Standing) -> dict[str, str]:
    """Return the same of the first check that it fails and that acts, alone; no other is named."""
    for name, fails in _of_text(tuple(names), standing, met(candidate)):
        reason = fails(candidate)
        if reason:
            return {name: reason}
    return {}


def judge_beginning(candidate: Candidate, names: Iterable[str] = NAMES, standing: Standing = AS_SHIPPED) -> Verdict:
    """Judge the beginning of an answer that is not complete."""
    needs = met(candidate)
    for check in of_beginnings(tuple(names)):
        if check.of_a_beginning is not None and check.is_about(needs) and standing.acts(check.name):
            reason = check.of_a_beginning(candidate)
            if reason:
                return Verdict(check=check.name, reason=reason)
    return Verdict()


@lru_cache(LISTS)
def of_beginnings(names: tuple[str, ...]) -> tuple[Check, ...]:
    """Return the named checks that look at the beginning of an answer."""
    return tuple(check for check in _named(names) if check.of_a_beginning is not None)


@lru_cache(LISTS)
def _of_text(names: tuple[str, ...], standing: Standing | None, needs: Needs) -> tuple[tuple[str, Fails], ...]:
    """Return the named checks that need nothing but the text; with a standing those that act."""
    return tuple(
        (check.name, check.fails)
        for check in _named(names)
        if check.fails is not None and check.is_about(needs) and (standing is None or standing.acts(check.name))
    )


def _named(names: Iterable[str]) -> list[Check]:
    return [CHECKS[name] for name in names if name in CHECKS]
