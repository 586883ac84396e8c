"""Counts and estimates of tokens, exact without a network."""

import pytest
import tiktoken

from millrace import tokens


@pytest.mark.parametrize(("size", "count"), [(0, 0), (1, 1), (3, 1), (4, 2), (6, 2), (3_000_000, 1_000_000)])
def test_an_estimate_is_a_third_of_the_bytes_rounded_up(size: int, count: int) -> None:
    """Whole numbers, without floats on the way."""
    assert tokens.estimate(size) == count


@pytest.mark.parametrize(
    ("text", "expected"),
    [("hello world", [24912, 2375]), ("", []), ("<|endoftext|>", None), ("naïve 東京 🙂", None)],
)
def test_counts_are_those_of_the_encoding(text: str, expected: list[int] | None) -> None:
    """Known tokens; special tokens in a text are text; decoding gives it back."""
    encoded = tokens.encoding().encode_ordinary(text)
    assert expected is None or encoded == expected
    assert tokens.encoding().decode(encoded) == text
    assert tokens.count(text) == len(encoded)


@pytest.mark.parametrize("blank", [" ", "\t", "\u3000", "\n"])
def test_a_long_run_of_white_space_is_counted(blank: str) -> None:
    """The splitting expression alone panics on it, with an exception that is no `Exception`."""
    text = "x" + blank * 1_000_000 + "y"
    assert 2 < tokens.count(text) <= len(text)


def test_a_long_text_counts_as_its_pieces_do() -> None:
    """Each border may add a token, no more."""
    text = "What is a millrace? " * (2 * tokens.PIECE // 20 + 7)
    exact = len(tokens.encoding().encode_ordinary(text))
    assert exact <= tokens.count(text) <= exact + len(text) // tokens.PIECE + 1


def test_the_encoding_is_whole() -> None:
    """200,000 ranks and the two special tokens where tiktoken has them."""
    encoding = tokens.encoding()
    assert isinstance(encoding, tiktoken.Encoding)
    assert encoding.n_vocab == 200_019
    assert encoding.eot_token == 199_999
    assert encoding.decode([199_997]).isprintable()


def test_damaged_ranks_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong checksum never becomes a wrong count."""
    monkeypatch.setattr(tokens, "SHA256", "0")
    with pytest.raises(RuntimeError, match="damaged"):
        tokens.encoding.__wrapped__()
