"""What the router knows of a prompt."""

import time

import numpy as np
import pytest

from millrace.funnel.routing.features import ALWAYS, LENGTH, NUMBERS, SLOTS, WIDTH, WORDS, Features, features_of
from millrace.types import Message, Prompt, ToolCall

LONG_S = 0.05  # far above what it takes, far below what reading all of it would


def asked(text: str, *before: Message) -> Prompt:
    return Prompt(messages=(*before, Message(role="user", parts=(text,))))


def number(features: Features, name: str) -> float:
    return float(features.values[-len(NUMBERS) :][NUMBERS.index(name)])


def words_of(features: Features) -> set[str]:
    return set(features.terms[: -len(NUMBERS)])


def test_words_and_pairs_of_words_are_read_and_numbers_are_folded_to_their_length() -> None:
    assert words_of(features_of(asked("Add 12 and 4567"))) == {
        *("add", "#2", "and", "#4"),
        *("add #2", "#2 and", "and #4"),
    }


def test_scripts_without_spaces_are_read_letter_by_letter() -> None:
    assert {"東", "京", "東 京", "abc"} <= words_of(features_of(asked("東京abcの天気")))
    assert words_of(features_of(asked("날씨 어때"))) == {"날씨", "어때", "날씨 어때"}


def test_only_the_last_user_message_counts_for_words_and_length() -> None:
    alone = features_of(asked("what is a monad"))
    before = (Message(role="system", parts=("zebra " * 500,)), Message(role="assistant", parts=("giraffe",)))
    among = features_of(asked("what is a monad", *before))
    assert words_of(among) == words_of(alone)
    assert number(among, "length") == number(alone, "length")
    assert number(among, "context") > number(alone, "context")


def test_a_tool_that_failed_is_told_from_one_that_did_not() -> None:
    def after(result: Message) -> float:
        return number(features_of(Prompt(messages=(Message(role="user", parts=("go on",)), result))), "failed tool")

    assert after(Message(role="tool", call_id="1", parts=("12 files",))) == 0
    assert after(Message(role="tool", call_id="1", parts=("12 files",), is_error=True)) > 0
    assert after(Message(role="tool", call_id="1", parts=("Error: no such file",))) > 0


def test_a_call_that_is_made_again_is_seen() -> None:
    def after(*arguments: str) -> float:
        calls = [ToolCall(id=str(at), name="read", arguments=each) for at, each in enumerate(arguments)]
        said = [Message(role="assistant", calls=(call,)) for call in calls]
        return number(features_of(asked("go on", *said)), "repeated call")

    assert after("{}") == after('{"a": 1}', '{"a": 2}') == after() == 0
    assert after('{"a": 1}', '{"a": 2}', '{"a": 1}') > 0


@pytest.mark.parametrize("text", ["", "é ünï 漢字 🎉", "\ud800 lone", "x" * 100_000, "7" * 50_000, "? " * 9_999])
def test_any_text_has_finite_features_within_the_width(text: str) -> None:
    features = features_of(asked(text))
    assert np.isfinite(features.values).all()
    assert features.slots.max() < WIDTH
    assert len(features.slots) == len(features.values) == len(features.terms)


def test_a_prompt_without_a_user_message_has_features() -> None:
    features = features_of(Prompt(messages=()))
    assert features.slots.tolist() == list(range(SLOTS, WIDTH))


def test_a_megabyte_is_not_read_whole() -> None:
    prompt = asked("several different words here 12 " * 32_000)
    features_of(prompt)
    begin = time.thread_time()
    features = features_of(prompt)
    assert time.thread_time() - begin < LONG_S
    assert len(features.slots) <= 2 * WORDS + len(NUMBERS)


def test_length_goes_on_growing_for_long_messages() -> None:
    lengths = [number(features_of(asked("word " * 10**power)), "length") for power in range(6)]
    assert lengths == sorted(set(lengths))


def test_packed_features_come_back_without_words() -> None:
    features = features_of(asked("How far is it from Ulm to Bonn, in 3 words?"))
    packed = features.packed()
    again = Features.unpacked(packed)
    assert again is not None
    assert again.slots.tolist() == features.slots.tolist()
    assert np.allclose(again.values, features.values, rtol=1e-3, atol=1e-4)
    assert again.terms == ()
    assert b"Ulm" not in packed
    assert b"ulm" not in packed


def test_damaged_or_foreign_features_are_not_unpacked() -> None:
    packed = features_of(asked("hello there")).packed()
    not_a_number = np.array([np.nan], np.float16).tobytes()
    damaged = [b"", packed[:3], packed[:-1], packed + b"x", bytes([packed[0] + 1]) + packed[1:]]
    assert [Features.unpacked(each) for each in [*damaged, packed[:-2] + not_a_number]] == [None] * 6


def test_the_slots_of_numbers_are_behind_those_of_words() -> None:
    assert SLOTS <= LENGTH < ALWAYS == WIDTH - 1
