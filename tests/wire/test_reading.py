"""Long JSON: its values are counted before any is made."""

import json

import msgspec
import pytest
from hypothesis import given, strategies as st

from millrace.errors import MillraceError
from millrace.wire import limits, reading


def refused(data: bytes) -> str | None:
    try:
        reading._check_values(data)
    except MillraceError as error:
        return f"{error.code}: {error.message}"
    return None


def values(count: int) -> list[bytes]:
    """Return texts with about so many values, each kind that there is."""
    return [
        b"[" + b"0," * count + b"0]",
        b"[" + b"[]," * (count // 2) + b"0]",
        b"{" + b",".join(b'"%d":0' % number for number in range(count)) + b"}",
        b'{"a":"' + b"\\" * 2 * reading._AT_ONCE + b'","b":[' + b"{}," * (count // 2) + b"0]}",
    ]


@pytest.mark.parametrize("kind", range(4))
def test_too_many_values_are_refused(kind: int) -> None:
    """Arrays, objects, keys, behind a string that ends in a backslash."""
    assert (
        str(refused(values(limits.MAX_VALUES + 10)[kind]))
        == "invalid_request: too many JSON values; send at most 250,000"
    )
    assert refused(values(limits.MAX_VALUES - 10)[kind]) is None


@pytest.mark.parametrize("piece", [b",", b"[{,", b'\\",', b"\\\\", b'\\\\\\",', "é,".encode(), b"\\u002c,"])
def test_what_is_in_strings_does_not_count(piece: bytes) -> None:
    """However it is escaped, and wherever a piece of the text ends."""
    for shift in range(4):
        text = b'{"' + b"x" * shift + b'":"' + piece * (3 * reading._AT_ONCE // len(piece)) + b'","b":1}'
        assert msgspec.json.decode(text)["b"] == 1
        assert refused(text) is None


@pytest.mark.untraced
@given(st.recursive(st.text('\\",[{x'), lambda child: st.lists(child) | st.dictionaries(st.text('\\"'), child)))
def test_the_count_bounds_the_values(value: object) -> None:
    """For any JSON, cut anywhere."""

    def count(node: object) -> int:
        children = [*node.values()] if isinstance(node, dict) else node if isinstance(node, list) else []
        return 1 + sum(map(count, children))

    text = json.dumps(value, ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        for at_once in (1, 2, 3, 7):
            patch.setattr(reading, "_AT_ONCE", at_once)
            patch.setattr(limits, "MAX_VALUES", 2 * count(value))
            assert refused(text) is None
            if isinstance(value, list) and len(value) > 1:
                patch.setattr(limits, "MAX_VALUES", len(value) - 1)
                assert refused(text) is not None


def test_utf8_is_recognised_in_pieces() -> None:
    """A character may lie on the border of two."""
    good = "😀".encode() * (reading._AT_ONCE // 2)
    for shift in range(4):
        assert reading.is_utf8(b"x" * shift + good)
    assert not reading.is_utf8(good[:-1])
    assert not reading.is_utf8(good + b"\xff")
