"""All checks, cheapest first."""

from millrace.funnel.checks import answers, declared, words
from millrace.funnel.checks.check import Check, Kind

TABLE = (
    Check(name="empty", kind=Kind.HARD, fails=answers.empty),
    Check(name="cut_off", kind=Kind.HARD, fails=answers.cut_off),
    Check(
        name="refusal",
        kind=Kind.FIRM,
        fails=answers.refusal,
        of_a_beginning=answers.refusal,
        may_begin=words.REFUSAL.may_begin,
    ),
    Check(
        name="unsure",
        kind=Kind.FIRM,
        fails=answers.unsure,
        of_a_beginning=answers.unsure,
        may_begin=words.DOUBT.may_begin,
    ),
    Check(name="opening", kind=Kind.FIRM),  # it is learned from evidence: `openings.py`
    Check(name="form", kind=Kind.HARD, breaks=declared.form, is_mendable=True),
    Check(name="tool_call", kind=Kind.HARD, breaks=declared.tool_call, is_mendable=True),
)
CHECKS = {check.name: check for check in TABLE}
NAMES = tuple(CHECKS)
