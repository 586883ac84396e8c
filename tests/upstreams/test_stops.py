"""Stop sequences hold whatever the provider does with them: no API of it, no heed, or the sequence left in the text."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from millrace.types import Call, FinishReason, Prompt, Scored, Thought
from millrace.types.scored import scores_of
from millrace.upstreams.chat.api import CHAT
from millrace.upstreams.messages.api import MESSAGES
from millrace.upstreams.provider_api import ProviderApi
from millrace.upstreams.quirks import PRESETS
from millrace.upstreams.responses.api import RESPONSES
from millrace.upstreams.stops import StopSequences, stops_of
from tests.support.provider import CALL, DONE, END, HEAD, answer, body, event, says, scripted_provider, stay
from tests.support.waiting import until
from tests.upstreams.test_cap import delta


def asking(stop: Any, **fields: Any) -> Call:
    return replace(CALL, prompt=replace(CALL.prompt, extras={"stop": stop}, **fields))


@pytest.mark.parametrize(
    ("given_", "stops"),
    [("END", ("END",)), (["a", "", "b"], ("a", "b")), (None, ()), ("", ()), ([1, {}], ()), ({"a": 1}, ())],
)
def test_what_is_a_stop_sequence(given_: Any, stops: tuple[str, ...]) -> None:
    assert stops_of(Prompt(messages=(), extras={} if given_ is None else {"stop": given_})) == stops


LETTERS = st.text(alphabet="ab\n", max_size=12)


@example(["ab", "a"], ["aba", "b"])
@example(["aba"], ["aba", "b"])
@given(
    st.lists(LETTERS, max_size=12), st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), min_size=1, max_size=3)
)
def test_the_text_ends_before_the_first_one_however_it_is_cut_up(deltas: list[str], stops: list[str]) -> None:
    """Nothing of a sequence is ever passed on, and nothing else is lost."""
    filtering, passed = StopSequences(stops), []
    for one in deltas:
        passed += filtering.take([one])
        if filtering.found:
            break
    whole = "".join(deltas)
    places = [(at + len(stop), at) for stop in stops if (at := whole.find(stop)) >= 0]
    if places:
        assert filtering.found
        assert "".join(passed) == whole[: min(places)[1]]
    else:
        assert not filtering.found
        assert "".join([*passed, *filtering.rest()]) == whole


async def test_a_provider_that_goes_on_is_left_and_only_what_was_shown_counts() -> None:
    """It ignores the sequence, which comes in two pieces."""
    sent = body(event("One. "), event("Two. EN"), event("D and on"), event(" and on"))
    async with scripted_provider(says(HEAD + sent, then=stay)) as provider:
        attempt = provider.upstream.open(asking(["END", "XX"]))
        finish = await attempt.done
        await until(lambda: provider.left_at is not None)
        assert provider.requests[0][1]["stop"] == ["END", "XX"]
        await attempt.task
    assert "".join(attempt.parts) == "One. Two. "
    assert finish.reason is FinishReason.STOP
    assert finish.stop is not None
    assert (finish.stop.reason, finish.stop.sequence) == ("stop_sequence", "END")
    assert attempt.usage is None


async def test_a_provider_that_sees_to_it_reports_its_usage() -> None:
    """And what looks like the beginning of a sequence is shown at the end, or before something else comes."""
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    sent = body(delta(content="One E"), delta(reasoning_content="so"), event("Two EN", "stop", usage=usage), DONE) + END
    attempt, finish = await answer(says(HEAD + sent), asking("END"))
    assert attempt.parts == ["One E", "Two EN"]
    assert attempt.asides == [Thought("so")]
    assert (finish.reason, finish.stop) == (FinishReason.STOP, None)
    assert attempt.usage is not None


async def test_reasoning_may_have_the_sequence() -> None:
    """Only the answer ends at it."""
    sent = body(delta(reasoning_content="the END"), event("fine", "stop"), DONE) + END
    attempt, _ = await answer(says(HEAD + sent), asking("END"))
    assert (attempt.asides, attempt.parts) == ([Thought("the END")], ["fine"])


async def test_a_cap_that_comes_first_is_told() -> None:
    call = asking("END", max_output_tokens=10)
    attempt, finish = await answer(says(HEAD + body(event("mill " * 200 + "END"))), call)
    assert finish.reason is FinishReason.LENGTH
    assert "END" not in "".join(attempt.parts)


async def test_log_probabilities_go_with_what_is_shown() -> None:
    """Those of the sequence do not."""
    filtering = StopSequences(["END"])
    passed = filtering.take([Scored("One ", b'{"token":"One "}'), Scored("END", b'{"token":"END"}')])
    assert passed == ["One "]
    assert scores_of(passed[0]) == b'{"token":"One "}'


@pytest.mark.parametrize(
    ("api", "field", "sent"),
    [(CHAT, "stop", ["END", " "]), (MESSAGES, "stop_sequences", ["END"]), (RESPONSES, "stop", None)],
    ids=["chat", "messages", "responses"],
)
def test_each_api_gets_what_it_takes(api: ProviderApi, field: str, sent: list[str] | None) -> None:
    """The rest is seen to here."""
    fields, _, notes = api.request(asking(["END", " "]), PRESETS["auto"])
    assert fields.get(field) == sent
    told = ["without stop: Millrace ends the answer there"] if api is RESPONSES else []
    assert [note for note in notes if "stop" in note] == told
