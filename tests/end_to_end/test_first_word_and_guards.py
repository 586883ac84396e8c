"""What `measure_first_word` and `measure_guards` measure at length, in short: real sockets, the real simulator."""

import json
import logging
from typing import Any

import pytest

from millrace.simulator.easy_questions import EASY_ANSWERS
from tests import measure_first_word, measure_guards
from tests.support.server import Running, Start
from tests.support.wire_client import check_response, text_of, wire_client

TEXTS = [text for text in EASY_ANSWERS.values() if " " in text]


@pytest.fixture(autouse=True)
def closed_connections_are_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard closes a call while the simulator writes."""
    monkeypatch.setattr(logging.getLogger("aiohttp.server"), "disabled", True)


async def test_no_plain_client_loses_a_character_under_prefix(millrace: Running) -> None:
    figures = await measure_first_word.of_plain_clients(millrace.ws_url, 200)
    assert figures["requests"] == 200
    assert figures["answered by large"] > 40
    assert figures["characters taken back"] == 0


def test_the_simulators_answers_are_held_for_a_few_tokens_and_none_is_missed() -> None:
    figures = measure_first_word.of_beginnings(measure_first_word.simulated(100))
    assert figures["tokens held, p50"] <= 6
    assert figures["p90"] <= 15
    assert figures["caught by 40"] == figures["of these caught"] > 20


async def test_no_client_keeps_a_character_of_a_secret() -> None:
    figures = await measure_guards.over_sockets(TEXTS, 66, 66)
    assert [each["shown"] + each["stands"] + each["changed"] for each in figures.values()] == [0, 0, 0, 0]
    assert [each["answers"] for each in figures.values()] == [66, 66, 33, 33]
    assert figures["secrets, negotiated clients"]["taken back"] > 0
    assert figures["clean, negotiated clients"]["taken back"] == 0


async def test_clean_words_come_one_token_later_at_most() -> None:
    assert all(each["most"] <= 1 for each in measure_guards.of_first_words(TEXTS, len(TEXTS)).values())


@pytest.mark.parametrize("negotiated", [False, True])
async def test_how_an_answer_ends_that_a_guard_stops(start: Start, *, negotiated: bool) -> None:
    """It is incomplete, by `content_filter`; the check says that it was a guard, and neither repeats what was found."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["guards"] = {"words": ["the simulator"]}

    given = [measure_guards.Answer("It was the simulator that said it.")]
    async with start(change) as running, wire_client(running.ws_url, negotiated=negotiated) as client:
        with measure_guards.saying(given):
            events = await client.ask("say 0", millrace={"strategy": "large"})
    response = check_response(events, negotiated=negotiated)
    assert events[-1]["type"] == "response.incomplete"
    assert response["incomplete_details"]["reason"] == "content_filter"
    assert response["metadata"]["millrace.check"] == "guard"
    assert text_of(events) == "It was "
    assert "the sim" not in json.dumps(events)
