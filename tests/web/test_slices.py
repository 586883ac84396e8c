"""How what a WebSocket has received is cut: few frames at once, and never in the way of a long one."""

import pytest
from hypothesis import given, strategies as st

from millrace.web.slices import BEGINNING, BYTES, FRAMES, Slices


def frame(length: int) -> bytes:
    if length < 126:
        return bytes((0x81, 0x80 | length)) + bytes(4 + length)
    if length < 65_536:
        return b"\x81\xfe" + length.to_bytes(2) + bytes(4 + length)
    return b"\x81\xff" + length.to_bytes(8) + bytes(4 + length)


def test_of_tiny_frames_a_slice_holds_few() -> None:
    """However many came with one read."""
    slices = Slices()
    slices.add(frame(0) * 10_000)
    taken = 0
    while piece := slices.take():
        assert piece in (frame(0) * FRAMES, frame(0) * (10_000 % FRAMES))
        taken += len(piece)
    assert taken == len(frame(0)) * 10_000
    assert not slices.has_frame


def test_a_long_payload_is_taken_as_it_comes() -> None:
    """With its frame's beginning; what follows it is a slice of its own."""
    slices = Slices()
    data = frame(20 * 2**20) + frame(0) * 100
    slices.add(data[:200_000])
    assert len(slices.take()) == 200_000
    slices.add(data[200_000:])
    assert len(slices.take()) == len(frame(20 * 2**20)) - 200_000
    assert slices.take() == frame(0) * FRAMES


def test_frames_of_middle_length_are_bounded_by_their_bytes() -> None:
    """Parsing copies them."""
    slices = Slices()
    slices.add(frame(30_000) * 20)
    assert BYTES <= len(slices.take()) < BYTES + len(frame(30_000))


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_a_header_that_is_not_complete_waits(length: int) -> None:
    """Byte by byte."""
    slices, data, taken = Slices(), frame(length), b""
    for at in range(20):
        slices.add(data[at : at + 1])
        taken += slices.take()
    slices.add(data[20:])
    assert taken + slices.take() == data


@given(
    st.lists(st.sampled_from([0, 1, 125, 126, 300, 65_535, 65_536, 70_000]), min_size=1, max_size=12),
    st.lists(st.integers(1, 100_000), min_size=1, max_size=12),
)
def test_nothing_is_lost_or_moved(lengths: list[int], cuts: list[int]) -> None:
    """Whatever comes, in whatever pieces."""
    data = b"".join(map(frame, lengths))
    slices, taken, at = Slices(), b"", 0
    for cut in [*cuts, len(data)]:
        slices.add(data[at : at + cut])
        at += cut
        while slices.has_frame:
            taken += slices.take()
    assert taken == data


def text(payload: bytes, *, opcode: int = 1, fin: bool = True, mask: bytes = b"mask") -> bytes:
    """Return a masked frame."""
    first, length = (0x80 if fin else 0) | opcode, len(payload)
    header = bytes((first, 0xFE)) + length.to_bytes(2) if length < 65_536 else bytes((first, 0xFF)) + length.to_bytes(8)
    return header + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


@pytest.mark.parametrize("opcode", [0, 1])
@pytest.mark.parametrize("fin", [True, False])
def test_a_frame_of_text_that_is_too_long_is_an_empty_one(opcode: int, *, fin: bool) -> None:
    """Its bits stay, and its beginning is known as soon as it has come; what follows is untouched."""
    slices = Slices(longest=100_000)
    payload = b"beginning" * 20_000
    data = frame(3) + text(payload, opcode=opcode, fin=fin) + frame(5)
    slices.add(data[:3000])
    assert (slices.take(), slices.too_big) == (frame(3), None)
    assert not slices.has_frame
    assert slices.take() == b""
    slices.add(data[3000:6000])
    assert slices.has_frame
    assert slices.take() == bytes(((0x80 if fin else 0) | opcode, 0x80)) + b"mask"
    assert slices.too_big is not None
    assert (slices.too_big.beginning, slices.too_big.size) == (payload[:BEGINNING], len(payload))
    for at in range(6000, len(data), 7000):
        slices.add(data[at : at + 7000])
    assert (slices.take(), slices.too_big) == (frame(5), None)


@pytest.mark.parametrize("opcode", [2, 8, 9, 10])
def test_other_frames_are_for_the_parser(opcode: int) -> None:
    """It knows what to do with them."""
    slices = Slices(longest=1000)
    data = text(b"x" * 2000, opcode=opcode)
    slices.add(data)
    assert (slices.take(), slices.too_big) == (data, None)


def test_what_is_dropped_is_gone() -> None:
    slices = Slices()
    slices.add(frame(0) * 3)
    slices.clear()
    assert slices.take() == b""
