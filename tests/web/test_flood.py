"""The share of the loop that one connection may take, and when it is abuse."""

import time

import pytest

from millrace.web.flood import BURST_S, EXACT_S, SHARE, FloodMeter, ReadingShare
from millrace.wire import limits


def test_a_little_is_free() -> None:
    """Frames that come now and then never wait."""
    share, now = ReadingShare(), 100.0
    for _ in range(1000):
        now += 0.01
        assert share.spend(0.001, now) == 0


def test_a_lot_waits_until_it_is_its_share() -> None:
    """Over ten seconds, whatever one piece costs. While a long piece is read, nothing is earned."""
    for piece in (0.0003, 0.02):
        share, now, worked = ReadingShare(), 100.0, 0.0
        while now < 110:
            now += piece
            worked += piece
            now += share.spend(piece, now)
        assert 0.99 * 10 * SHARE / (1 + SHARE) < worked < 10 * SHARE + BURST_S + 2 * piece


def test_what_is_not_used_is_not_saved_up() -> None:
    """After an hour a burst is as short as before."""
    share = ReadingShare()
    share.spend(0.001, 0.0)
    assert share.spend(2 * BURST_S, 3600.0) == pytest.approx(BURST_S / SHARE)


def test_too_many_in_too_short_a_time_is_abuse() -> None:
    """One less, or slower, is not."""
    meter = FloodMeter()
    assert not any(meter.count(number / 1000) for number in range(limits.MAX_REFUSED - 1))
    assert meter.count(1.0)
    meter = FloodMeter()
    step = limits.REFUSED_WITHIN_S / limits.MAX_REFUSED * 1.01
    assert not any(meter.count(number * step) for number in range(5 * limits.MAX_REFUSED))


def test_what_is_counted_is_time_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first piece on that may have taken too much; that one is free, and so are those that are short."""
    used, now = 5.0, 100.0
    monkeypatch.setattr(time, "thread_time", lambda: used)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    share = ReadingShare()

    def took(clock_s: float, cpu_s: float) -> float:
        nonlocal used, now
        share.begin()
        used, now = used + cpu_s, now + clock_s
        return share.end()

    assert took(BURST_S / 2, BURST_S / 2) == 0
    assert took(10.0, 10.0) == 0  # as if the machine had been busy
    assert took(0.5, 0.0) == 0  # and so it was
    assert took(0.5, BURST_S + SHARE) == pytest.approx(1.0, rel=0.01)
    now += 1.0 + EXACT_S  # the wait, and a while longer
    assert took(10.0, 0.0) == 0
    assert took(0.5, BURST_S + SHARE) == pytest.approx(1.0, rel=0.01)
