"""Counts and estimates of tokens, exact without a network."""

import pytest
import tiktoken

from millrace import tokens
from millrace.tokens import encodings


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


@pytest.mark.parametrize(
    ("name", "ranks", "last"), [(tokens.O200K, 200_019, 199_997), (tokens.CL100K, 100_277, 100_255)]
)
def test_the_encodings_are_whole(name: str, ranks: int, last: int) -> None:
    """All ranks, and the special tokens where tiktoken has them."""
    encoding = tokens.encoding(name)
    assert isinstance(encoding, tiktoken.Encoding)
    assert encoding.n_vocab == ranks
    assert encoding.eot_token == {tokens.O200K: 199_999, tokens.CL100K: 100_257}[name]
    assert encoding.decode([last]).isprintable()


def test_damaged_ranks_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong checksum never becomes a wrong count."""
    monkeypatch.setattr(encodings, "_SHA256", {tokens.O200K: "0"})
    with pytest.raises(RuntimeError, match="damaged"):
        tokens.encoding.__wrapped__(tokens.O200K)
