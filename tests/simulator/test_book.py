"""Answers of the user's own: in all wordings, of both models, brief where that is asked for, and without ground."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace

from millrace.simulator import LARGE, SMALL, Book, Profile, Simulator
from millrace.simulator.book import UNFOUNDED
from tests.support.simulator_client import Client

LINES = """\
{"questions": ["How tall is it?", "What is its height?"], "strong": "324 m, with its mast.", "weak": "I'm not sure."}
{"questions": ["How old is it?"], "strong": "It was built in 1889, for a fair.", "brief": "1889."}
{"questions": ["Who signed case 7?"], "strong": "A miller did.", "needs": ["K7"]}
"""


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
async def model(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    file = tmp_path / "answers.jsonl"
    file.write_text(LINES, "utf-8")
    async with Simulator(request.param, book=Book.read(file)) as simulator, aiohttp.ClientSession() as session:
        yield Client(session, simulator)


@pytest.mark.parametrize("asked", ["How tall is it?", "what is its  HEIGHT", "Context:\n\nfog\n\nHow tall is it?"])
async def test_all_wordings_have_the_answer_of_the_model(model: Client, asked: str) -> None:
    """Whatever stands before it in paragraphs of their own."""
    wanted = "I'm not sure." if model.simulator.profile.name == "small" else "324 m, with its mast."
    assert await model.text(asked) == wanted


async def test_a_model_that_is_to_correct_its_answer_says_it_again(model: Client) -> None:
    messages = [
        {"role": "user", "content": "How old is it?"},
        {"role": "assistant", "content": "1889"},
        {"role": "user", "content": "That is wrong. Answer once more."},
    ]
    status, raw = await model.post({"messages": messages})
    assert (status, b"It was built in 1889, for a fair." in raw) == (200, True)


async def test_an_answer_is_brief_where_a_system_message_asks_for_it(model: Client) -> None:
    for line, wanted in (("Answer as briefly as you can.", "1889."), ("Be kind.", "It was built in 1889, for a fair.")):
        messages = [{"role": "system", "content": line}, {"role": "user", "content": "How old is it?"}]
        status, raw = await model.post({"messages": messages})
        assert status == 200
        assert f'"content":"{wanted}"'.encode() in raw


async def test_an_answer_needs_its_ground_in_the_conversation(model: Client) -> None:
    assert await model.text("Who signed case 7?") == UNFOUNDED
    assert await model.text("See entry K7.\n\nWho signed case 7?") == "A miller did."


async def test_other_questions_are_answered_as_without_a_book(model: Client) -> None:
    assert await model.text("What is the capital of France?") == "The capital of France is Paris."


@pytest.mark.parametrize(
    "line", ['{"strong": "x"}', '{"questions": ["x"]}', '{"questions": "x", "strong": "x"}', "no JSON", '"x"']
)
def test_a_line_with_a_fault_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text(f'{{"questions": ["a"], "strong": "b"}}\n{line}\n', "utf-8")
    with pytest.raises(ValueError, match=r"^line 2: "):
        Book.read(file)


def test_a_faster_profile_is_faster_in_all() -> None:
    usual = Profile("x", "x", ttft_s=0.6, tokens_per_s=40, stall_s=(4.0, 20.0))
    assert usual.at(4) == replace(usual, ttft_s=0.15, tokens_per_s=160, stall_s=(1.0, 5.0))
    assert usual.at(1) == usual
