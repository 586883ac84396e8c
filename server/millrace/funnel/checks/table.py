"""All checks, cheapest first."""

from millrace.funnel.checks import answers, code, declared, language, quantities, repeats, style, unfinished, words
from millrace.funnel.checks.check import Check, Kind, Needs

_HARD, _FIRM, _SOFT = Kind.HARD, Kind.FIRM, Kind.SOFT
_TEXT, _PROSE = Needs.TEXT, Needs.PROSE

TABLE = (
    Check(name="empty", kind=_HARD, fails=answers.empty),
    Check(name="cut_off", kind=_HARD, fails=answers.cut_off),
    Check(
        name="refusal",
        kind=_FIRM,
        fails=answers.refusal,
        of_a_beginning=answers.refusal,
        may_begin=words.REFUSAL.may_begin,
    ),
    Check(
        name="unsure",
        kind=_FIRM,
        fails=answers.unsure,
        of_a_beginning=answers.unsure,
        may_begin=words.DOUBT.may_begin,
    ),
    Check(name="loop", kind=_HARD, fails=repeats.loop, needs=_TEXT),
    Check(name="echo", kind=_FIRM, fails=repeats.echo, needs=_PROSE),
    Check(name="unfinished", kind=_FIRM, fails=unfinished.unfinished, needs=_PROSE),
    Check(name="language", kind=_FIRM, fails=language.language, needs=_PROSE),
    Check(name="final_answer", kind=_FIRM, fails=quantities.final_answer, needs=_PROSE),
    Check(name="impossible_number", kind=_FIRM, fails=quantities.impossible, needs=_PROSE),
    Check(name="arithmetic", kind=_FIRM, fails=quantities.arithmetic, needs=_PROSE),
    Check(name="code", kind=_FIRM, fails=code.code, needs=_TEXT),
    Check(name="citations", kind=_HARD, fails=declared.citations, only_if_named=True),
    Check(name="hedging", kind=_SOFT, fails=style.hedging, needs=_PROSE),
    Check(name="length", kind=_SOFT, fails=style.length, needs=_PROSE),
    Check(name="units", kind=_SOFT, fails=quantities.units, needs=_PROSE),
    Check(name="rounded", kind=_SOFT, fails=quantities.rounded, needs=_PROSE),
    Check(name="unused_numbers", kind=_SOFT, fails=quantities.unused_numbers, needs=_PROSE),
    Check(name="unknown_numbers", kind=_SOFT, fails=quantities.unknown_numbers, needs=_PROSE),
    Check(name="form", kind=_HARD, breaks=declared.form, is_mendable=True),
    Check(name="pattern", kind=_HARD, breaks=declared.pattern, is_mendable=True),
    Check(name="tool_call", kind=_HARD, breaks=declared.tool_call, is_mendable=True),
)
LEARNED = "learned"  # the check that evidence teaches
OPENING = "opening"  # the first words that evidence has shown to be those of wrong answers
CHECKS = {check.name: check for check in TABLE}
NAMES = (*CHECKS, OPENING, LEARNED)
HARD = frozenset(check.name for check in TABLE if check.kind is Kind.HARD)
