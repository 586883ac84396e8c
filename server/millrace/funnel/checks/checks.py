"""All checks of a process: those of the table, the user's own, and the learned one."""

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from millrace.funnel.checks import judge as judging
from millrace.funnel.checks.candidate import Candidate
from millrace.funnel.checks.features import features_of
from millrace.funnel.checks.lessons import Lessons
from millrace.funnel.checks.openings import LearnedOpenings, opening_of
from millrace.funnel.checks.own import OwnCheck
from millrace.funnel.checks.table import HARD, LEARNED, NAMES, OPENING
from millrace.funnel.offload import in_thread_if_over
from millrace.ports import SchemaValidator, Student
from millrace.types import Request, Tier, Verdict


class Checks:
    """Judges answers. `off` are the names of checks that never run."""

    def __init__(
        self,
        schemas: SchemaValidator,
        *,
        off: Collection[str] = (),
        own: Sequence[OwnCheck] = (),
        lessons: Lessons | None = None,  # None: nothing is judged, so nothing is learned
        openings: LearnedOpenings | None = None,  # the same
    ) -> None:
        self.schemas = schemas
        self.lessons = lessons
        self.openings = openings
        self._own = {check.name: check for check in own if check.name not in off}
        self._off = frozenset(off)
        self.names = (*(name for name in NAMES if name not in off), *self._own)  # that a request may name
        self._usual = judging.usual(self.names)

    @property
    def students(self) -> tuple[Student, ...]:
        """Who learn from evidence."""
        return tuple(each for each in (self.lessons, self.openings) if each is not None)

    def selected(self, request: Request) -> tuple[str, ...]:
        """Return the names of the checks that run for a request, cheapest first."""
        return self._usual if request.checks is None else judging.selected(request, self.names)

    def hard_alone(self, request: Request) -> Request:
        """Return a request with none but the hard checks of those that run for it."""
        return replace(request, checks=tuple(name for name in self.selected(request) if name in HARD))

    async def judge(
        self, candidate: Candidate, names: Collection[str], tier: Tier = Tier.SMALL, *, measures: bool = False
    ) -> Verdict:
        """Judge a complete answer by the named checks, the user's own after those of the table, the learned one last.

        The learned check knows the small model's answers alone, by what all others say of them. `measures`: also those
        look at it that may not take it back, and the verdict's features say what is known of the answer.
        """
        if not names:
            return Verdict()
        lessons, tenant = self.lessons, candidate.tenant
        standing = judging.AS_SHIPPED if lessons is None else lessons.standing(tenant)
        model = lessons.model(tenant) if lessons is not None and tier is Tier.SMALL and LEARNED in names else None
        measures = measures or (model is not None and standing.acts(LEARNED))
        verdict = await judging.judge(candidate, self.schemas, names, standing, measures=measures)
        features = dict(verdict.features)
        failed, reason = verdict.check, verdict.reason
        for name, check in self._own.items():
            if failed is None and name in names and not candidate.calls and (measures or standing.acts(name)):
                said = await check.fails(candidate.question, candidate.text)
                features[name] = float(bool(said))
                if said and standing.acts(name):
                    failed, reason = name, said
        if self.openings is not None and tier is Tier.SMALL:
            if measures:
                features |= opening_of(candidate.text, tenant)
            if OPENING in names and not candidate.calls and (measures or failed is None):
                opening = self.openings.judge(candidate)
                features[OPENING] = float(not opening.passed)
                if failed is None and not opening.passed and standing.acts(OPENING):
                    failed, reason = opening.check, opening.reason
        if measures and lessons is not None and tier is Tier.SMALL and features and candidate.text.strip():
            work = judging.work_of(candidate)
            features |= await in_thread_if_over(judging.ON_LOOP, work, lambda: features_of(candidate))
            if model is not None:
                is_flagged = model.flags(features)
                features[LEARNED] = float(is_flagged)
                if is_flagged and failed is None and standing.acts(LEARNED):
                    failed, reason = LEARNED, f"likely wrong: {model.probability(features):.2f}"
        return Verdict(check=failed, reason=reason, features=features if measures else {})

    def judge_beginning(self, candidate: Candidate, names: Collection[str]) -> Verdict:
        """Judge the beginning of an answer that is not complete."""
        lessons = self.lessons
        standing = judging.AS_SHIPPED if lessons is None else lessons.standing(candidate.tenant)
        verdict = judging.judge_beginning(candidate, names, standing)
        if verdict.passed and self.openings is not None and OPENING in names and standing.acts(OPENING):
            return self.openings.judge(candidate)
        return verdict

    def may_begin_badly(self, text: str, names: Collection[str], tenant: str) -> bool:
        """Whether a text that goes on may still come to begin in a way that `judge_beginning` takes back."""
        for check in judging.of_beginnings(tuple(names)):
            if check.may_begin is None or check.may_begin(text):
                return True
        return self.openings is not None and OPENING in names and self.openings.may_begin(text, tenant)
