"""Server-sent events out of bytes: however the network cuts them, and whatever line endings a provider likes."""

import pytest
from hypothesis import given, strategies as st

from millrace.errors import UpstreamError
from millrace.upstreams.sse import MAX_EVENT, EventStream

BOM = b"\xef\xbb\xbf"
ENDINGS = [b"\n", b"\r\n", b"\r"]


def read(*chunks: bytes) -> list[bytes]:
    """Return the events of a stream that came in these chunks."""
    stream = EventStream()
    return [event for chunk in chunks for event in stream.feed(chunk)]


@st.composite
def chopped(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Draw a body of awkward pieces, and one way to cut it."""
    pieces = [
        b"data: a",
        b"event: x\ndata: a\n\n",
        b"event: error\ndata: a\n\n",
        b"data:",
        b"data:{}",
        b": note",
        b"event: x",
        b"id: 1",
        b"data",
        b"\xc3\xa4",
        BOM,
        b" ",
        b":",
    ]
    body = b"".join(draw(st.lists(st.sampled_from(pieces + ENDINGS * 3), max_size=30)))
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=12)))
    return body, [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]


@given(chopped())
def test_any_split_gives_the_same_events(case: tuple[bytes, list[bytes]]) -> None:
    """A network may cut anywhere: inside a line ending, a character, the byte order mark."""
    body, chunks = case
    assert read(*chunks) == read(body)
    assert read(*(body[index : index + 1] for index in range(len(body)))) == read(body)


@given(
    events=st.lists(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), min_size=1), max_size=5),
    ending=st.sampled_from(ENDINGS),
    bom=st.booleans(),
)
def test_what_is_written_is_read(events: list[list[str]], ending: bytes, *, bom: bool) -> None:
    """Each event's data lines come back joined by line feeds, under every line ending."""
    lines = [line for event in events for line in (*(f"data: {text}".encode() for text in event), b"")]
    body = BOM * bom + b"".join(line + ending for line in lines)
    assert read(body, b": still here\n") == ["\n".join(event).encode() for event in events]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("lines", "events"),
    [
        ([b"data: one", b"", b"data: two", b""], [b"one", b"two"]),
        ([b"data: one", b"data: two", b""], [b"one\ntwo"]),
        ([b": comment", b"", b":", b"data: one", b": inside", b""], [b"one"]),
        ([b"event: delta", b"id: 7", b"retry: 10", b"data: one", b""], [b"one"]),
        ([b"event: ping", b"", b"", b""], []),
        ([b"data:one", b"", b"data:  one", b""], [b"one", b" one"]),
        ([b"data:", b"data:", b""], [b"\n"]),
        ([b"database: no", b"Data: no", b" data: no", b""], []),
        ([b"data: [DONE]", b""], [b"[DONE]"]),
        ([b'data: {"a":1}', b'data: {"b":2}', b"data: [DONE]", b""], [b'{"a":1}', b'{"b":2}', b"[DONE]"]),
        ([b'data: {"a":[', b'data: {"b":2}', b"data: ]}", b""], [b'{"a":[\n{"b":2}\n]}']),
        ([b'data: {"a":', b'data: {"b":2}}', b""], [b'{"a":\n{"b":2}}']),
        ([b"data: unfinished"], []),
    ],
)
def test_lines(ending: bytes, lines: list[bytes], events: list[bytes]) -> None:
    """The rules of the format that providers use, one by one."""
    assert read(ending.join(lines) + ending, b"\n" if ending == b"\r" else b"") == events


def test_line_endings_may_be_mixed() -> None:
    """Proxies rewrite some of them."""
    assert read(b"data: a\r\n\ndata: b\n\r\ndata: c\r\r\ndata: d\r\n\r\n") == [b"a", b"b", b"c", b"d"]


def test_an_event_leaves_with_the_byte_that_completes_it() -> None:
    """No token waits for the next one."""
    stream = EventStream()
    assert stream.feed(b"data: a\n") == []
    assert stream.feed(b"\n") == [b"a"]
    assert stream.feed(b"data: b\r\n\r") == []
    assert stream.feed(b"\n") == [b"b"]


@pytest.mark.parametrize("cut", range(4))
def test_a_byte_order_mark_counts_only_at_the_very_beginning(cut: int) -> None:
    """There it is dropped, also in pieces; later it makes a line that is no data."""
    assert read(BOM[:cut], BOM[cut:] + b"data: a\n\n") == [b"a"]
    assert read(b"data: a\n\n" + BOM[:cut], BOM[cut:] + b"data: b\n\n") == [b"a"]


@pytest.mark.parametrize("size", [64 * 1024, MAX_EVENT + 1024])
def test_an_event_over_four_mebibytes_is_refused(size: int) -> None:
    """A line that never ends may not fill the memory."""
    chunk = b"data: " + b"x" * (size - 6)
    with pytest.raises(UpstreamError, match="more than 4 MiB") as raised:
        read(*(chunk for _ in range(MAX_EVENT // size + 2)))
    assert raised.value.code == "upstream_error"


def test_a_large_event_within_the_bound_is_read() -> None:
    """A mebibyte in pieces is an event like any other."""
    size = 2**20
    chunks = [b"x" * 65_536 for _ in range(size // 65_536)]
    assert read(b"data: ", *chunks, b"\n\n") == [b"x" * size]


@pytest.mark.parametrize("body", [b"data: " + b"x" * MAX_EVENT + b"\n", (b"data: " + b"x" * 1000 + b"\n") * 5000])
def test_an_event_of_many_or_whole_lines_is_bounded_too(body: bytes) -> None:
    """However its bytes are cut into lines."""
    with pytest.raises(UpstreamError):
        EventStream().feed(body)
