"""How the models fare: what is counted, for how long, and how often it is logged."""

from collections.abc import Iterator

import pytest

from millrace.funnel.health import MAX_CAUSES, Condition, Health, Report
from millrace.types import Tier
from tests.support.logs import CapturedLogs, captured_logs
from tests.support.scripted_models import LARGE, SMALL

WALL = 1_700_000_000.0


class Clocked:
    """A record, and its clocks."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.health = Health((SMALL, LARGE), lambda: self.now, lambda: WALL + self.now - 1000)

    def report(self, tier: Tier = Tier.SMALL) -> Report:
        (found,) = [report for report in self.health.reports() if report.model.tier is tier]
        return found


@pytest.fixture
def clocked() -> Clocked:
    return Clocked()


@pytest.fixture
def logs() -> Iterator[CapturedLogs]:
    with captured_logs(level="info") as captured:
        yield captured


def test_a_model_fails_until_it_answers_and_is_unsteady_for_a_minute(clocked: Clocked) -> None:
    assert clocked.report().condition is Condition.UNKNOWN
    clocked.health.answered(Tier.SMALL)
    assert clocked.report().condition is Condition.OK
    clocked.now += 10
    clocked.health.failed(Tier.SMALL, "answered HTTP 503")
    clocked.now += 20
    clocked.health.failed(Tier.SMALL, "answered HTTP 500")
    report = clocked.report()
    assert (report.condition, report.failing_since, report.failed_at) == (Condition.FAILING, WALL + 10, WALL + 30)
    assert (report.cause, report.answered_at, report.last_minute) == ("answered HTTP 500", WALL, 2)
    clocked.health.answered(Tier.SMALL)
    assert (clocked.report().condition, clocked.report().failing_since) == (Condition.DEGRADED, None)
    clocked.now += 70
    assert (clocked.report().condition, clocked.report().last_minute, clocked.report().last_minutes) == ("ok", 0, 2)
    clocked.now += 300
    assert clocked.report().last_minutes == 0
    assert clocked.report().causes == {"answered HTTP 503": 1, "answered HTTP 500": 1}
    assert clocked.report(Tier.LARGE).condition is Condition.UNKNOWN


def test_a_model_seems_to_fail_for_a_while_unless_it_answers(clocked: Clocked) -> None:
    assert not clocked.health.is_failing(Tier.SMALL, 10)
    clocked.health.failed(Tier.SMALL, "answered HTTP 503")
    assert clocked.health.is_failing(Tier.SMALL, 10)
    clocked.now += 11
    assert not clocked.health.is_failing(Tier.SMALL, 10)
    clocked.health.failed(Tier.SMALL, "answered HTTP 503")
    clocked.health.answered(Tier.SMALL)
    assert not clocked.health.is_failing(Tier.SMALL, 10)


def test_the_record_is_bounded(clocked: Clocked) -> None:
    """However many failures there are, and however many kinds of them."""
    for number in range(10_000):
        clocked.now += 0.5
        clocked.health.failed(Tier.SMALL, f"answered HTTP {number}")
    report = clocked.report()
    assert (len(report.causes), sum(report.causes.values())) == (MAX_CAUSES + 1, 10_000)
    assert next(iter(report.causes)) == "other"
    assert report.last_minute == pytest.approx(120, abs=11)
    assert report.last_minutes == pytest.approx(600, abs=11)


def test_a_cause_is_logged_once_a_minute(clocked: Clocked, logs: CapturedLogs) -> None:
    """Each cause of each model by itself, also within one second."""

    def lines() -> list[str]:
        return [line for line in logs.from_millrace.getvalue().splitlines() if '"model failed"' in line]

    for tier in Tier:
        for cause in ("answered HTTP 503", "sent no first token within 60 s"):
            for _ in range(5):
                clocked.health.failed(tier, cause)
    assert len(lines()) == 4
    assert all('"level": "warning"' in line and "left_out" not in line for line in lines())
    assert sum("small-model" in line and "HTTP 503" in line for line in lines()) == 1
    clocked.now += 59
    clocked.health.failed(Tier.SMALL, "answered HTTP 503")
    assert len(lines()) == 4


def test_the_next_line_of_a_cause_says_how_many_were_left_out(clocked: Clocked, logs: CapturedLogs) -> None:
    for _ in range(5):
        clocked.health.failed(Tier.SMALL, "answered HTTP 503")
    clocked.now += 61
    with captured_logs() as later:  # the log's own throttle goes by a real clock
        clocked.health.failed(Tier.SMALL, "answered HTTP 503")
    assert '"left_out": 4' in later.from_millrace.getvalue()
    assert "left_out" not in logs.from_millrace.getvalue()


def test_a_model_that_answers_again_is_logged_once(clocked: Clocked, logs: CapturedLogs) -> None:
    for _ in range(5):
        clocked.health.failed(Tier.SMALL, "answered HTTP 503")
        clocked.health.answered(Tier.SMALL)
    assert logs.from_millrace.getvalue().count("model answers again") == 1


def test_a_time_that_a_provider_names_is_waited_for_a_minute_at_most(clocked: Clocked) -> None:
    assert clocked.health.wait(Tier.SMALL) is None
    clocked.health.failed(Tier.SMALL, "answered HTTP 429", 12_400)
    wait = clocked.health.wait(Tier.SMALL)
    assert wait is not None
    assert wait.message == "small-model answered HTTP 429, not to be asked for 13 s more"
    assert wait.retry_after_ms == pytest.approx(12_400, abs=1)
    assert clocked.health.wait(Tier.LARGE) is None
    clocked.now += 12.5
    assert clocked.health.wait(Tier.SMALL) is None
    clocked.health.failed(Tier.SMALL, "answered HTTP 429", 3_600_000)
    clocked.now += 59
    assert clocked.health.wait(Tier.SMALL) is not None
    clocked.now += 2
    assert clocked.health.wait(Tier.SMALL) is None
    clocked.health.failed(Tier.SMALL, "answered HTTP 429", 10_000)
    clocked.health.answered(Tier.SMALL)
    assert clocked.health.wait(Tier.SMALL) is None
