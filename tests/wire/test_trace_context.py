"""`traceparent` and `tracestate`: what is read, what is left out, and what a call tells its provider."""

import pytest

from millrace.types import Trace, new_trace
from millrace.wire.trace_context import MAX_STATE, read, trace_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{SPAN}-01"


def test_a_valid_one_is_read() -> None:
    assert read(HEADER, "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7") == Trace(
        trace_id=TRACE, parent_id=SPAN, flags=1, state="congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
    )
    unsampled = read(f" 00-{TRACE}-{SPAN}-00 ")
    assert unsampled is not None
    assert not unsampled.is_sampled


@pytest.mark.parametrize(
    "given",
    [
        None,
        1,
        "",
        "no trace",
        HEADER.upper(),
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN[1:]}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"{HEADER}-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"{HEADER},{HEADER}",
    ],
)
def test_an_invalid_one_is_left_out(given: object) -> None:
    assert read(given) is None


def test_a_later_version_may_have_more() -> None:
    """W3C Trace Context, 3.2.4: what is known of it holds."""
    found = read(f"cc-{TRACE}-{SPAN}-01-what-the-future-brings")
    assert found is not None
    assert found.for_call() == HEADER


@pytest.mark.parametrize("state", ["x" * (MAX_STATE + 1), "a=\x00", "a=é", "a=b\r\nX-Evil: 1", None, 7])
def test_a_state_that_could_not_be_sent_on_is_left_out(state: object) -> None:
    found = read(HEADER, state)
    assert found is not None
    assert found.state == ""


def test_a_request_comes_before_its_connection() -> None:
    """The fields of a frame, by the names of W3C, of Codex and of SDKs without headers; then the headers."""
    other = HEADER.replace("4bf9", "5bf9")
    headers = {"traceparent": HEADER, "tracestate": "a=b"}
    for fields in (
        {"client_metadata": {"traceparent": other}},
        {"client_metadata": {"ws_request_header_traceparent": other, "ws_request_header_tracestate": "c=d"}},
        {"metadata": {"millrace.traceparent": other, "millrace.tracestate": "c=d"}},
    ):
        found = trace_of(fields, headers)
        assert found is not None
        assert found.trace_id.startswith("5bf9")
        assert found.state in ("", "c=d")
    assert trace_of({"metadata": {"team": "x"}, "client_metadata": []}, headers) == read(HEADER, "a=b")
    assert trace_of({}, {}) is None


def test_a_call_has_a_span_of_its_own_only_where_one_is_recorded() -> None:
    passed_on = read(HEADER)
    assert passed_on is not None
    assert passed_on.for_call() == HEADER
    recorded = passed_on.recorded()
    calls = {recorded.for_call() for _ in range(2)}
    assert len(calls) == 2
    assert all(call.startswith(f"00-{TRACE}-") and call.endswith("-01") and SPAN not in call for call in calls)
    begun = new_trace()
    assert (begun.parent_id, begun.is_sampled, len(begun.trace_id), len(begun.span_id)) == ("", True, 32, 16)
