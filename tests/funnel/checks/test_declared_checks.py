"""What a request declares beside a format: a pattern, and that the context is cited."""

import pytest

from millrace.errors import MillraceError
from millrace.funnel import checks
from millrace.funnel.checks import NAMES, Candidate
from millrace.types import Finish, FinishReason
from millrace.wire.options import DeclaredCheck, GivenOptions, Options
from tests.support.inline_schemas import InlineSchemas
from tests.support.server import Running
from tests.support.wire_client import wire_client

STOP = Finish(reason=FinishReason.STOP)
CONTEXT = (
    "Context, most relevant first:\n\nThe wheel was built in 1871 by two brothers.\n\n[log-7] It stopped in 1954.\n\n"
)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("It was built in 1871 [1].", True),
        ("It stopped in 1954 [log-7].", True),
        ("It was built in 1871 [1, 2].", True),
        ('The text says "was built in 1871 by two brothers".', True),
        ("It was built in 1871.", False),
        ("It was built in 1871 [7].", False),
        ("It was built in 1871 ([see](https://example.com)).", False),
    ],
)
async def test_citations(text: str, passes: bool) -> None:
    candidate = Candidate(text=text, finish=STOP, context=CONTEXT, question="When was it built?")
    verdict = await checks.judge(candidate, InlineSchemas(), ("citations",))
    assert verdict.check == (None if passes else "citations")
    without = Candidate(text=text, finish=STOP, question="When was it built?")
    assert (await checks.judge(without, InlineSchemas(), ("citations",))).passed


def test_a_request_names_at_most_one_schema_and_one_regex() -> None:
    def named(*given: str | DeclaredCheck) -> tuple[object, ...]:
        return GivenOptions(Options(checks=list(given)), {}).checks(NAMES)

    assert named("form", DeclaredCheck(regex="^a")) == (("form",), None, "", "^a", "millrace.checks[1].regex")
    for wrong in ([DeclaredCheck(regex="a")] * 2, [DeclaredCheck()], [DeclaredCheck(regex="a", json_schema={})]):
        with pytest.raises(MillraceError, match=r"millrace\.checks\["):
            named(*wrong)
    with pytest.raises(MillraceError, match="'arithmetik' is not one of empty, cut_off, refusal"):
        named("arithmetik")


async def test_an_answer_that_does_not_match_the_regex_is_taken_back(millrace: Running) -> None:
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        for regex, route, check in (("[Pp]aris", "small", "passed"), ("^[0-9]+$", "large", "pattern")):
            options = {"checks": [{"regex": regex}], "strategy": "cascade", "cache": "off"}
            events = await client.ask("What is the capital of France?", millrace=options)
            metadata = events[-1]["response"]["metadata"]
            assert (metadata["millrace.route"], metadata["millrace.check"]) == (route, check)


async def test_a_regex_that_is_none_is_refused_with_its_path(millrace: Running) -> None:
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await client.ask("What is the capital of France?", millrace={"checks": [{"regex": "("}]})
    assert events[-1]["type"] == "error" or events[-1]["response"]["error"]
    assert "millrace.checks[0].regex" in repr(events[-1])
