"""How the models fare, by deployment: what is counted, for how long, how often it is logged, and who is left alone."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from millrace.errors import Rule, UpstreamError
from millrace.funnel.breaker import FAILURES, State
from millrace.funnel.catalog import Catalog
from millrace.funnel.health import Health
from millrace.funnel.pools import Place, Pool
from millrace.funnel.record import MAX_CAUSES, Condition, Report
from millrace.types import Deployment, Model, Strategy, Tier
from tests.support.logs import CapturedLogs, captured_logs
from tests.support.scripted_models import LARGE, SMALL, STOP, ScriptedUpstream

WALL = 1_700_000_000.0
CATALOG = Catalog(SMALL, LARGE, {}, Strategy.AUTO)


def error(cause: str, retry_after_ms: int | None = None) -> UpstreamError:
    return UpstreamError("upstream_error", f"small-model {cause}", retry_after_ms=retry_after_ms, cause=cause)


class Clocked:
    """A record of a small model at two places and a large one at one, and its clocks. Probes are answered."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.upstream = ScriptedUpstream(["Ready.", STOP])
        deployments = {"small": ["eu", "us"], "large": [""]}
        pools = [
            Pool(model, [(Deployment(label=label), self.upstream) for label in deployments[model.name]], self.clock)
            for model in (SMALL, LARGE)
        ]
        self.health = Health(pools, CATALOG, self.clock, lambda: WALL + self.now - 1000)

    def clock(self) -> float:
        return self.now

    def place(self, label: str = "eu") -> Place:
        places = [place for pool in self.health.pools.values() for place in pool.places]
        return next(place for place in places if place.deployment.label == label)

    def answered(self, label: str = "") -> None:
        self.health.answered(self.place(label), self.now)

    def failed(self, cause: str, label: str = "", retry_after_ms: int | None = None) -> None:
        self.health.failed(self.place(label), error(cause, retry_after_ms), self.now)

    def report(self, tier: Tier = Tier.LARGE) -> Report:
        (found,) = [report for report in self.health.reports() if report.model.tier is tier]
        return found


@pytest.fixture
def clocked() -> Clocked:
    return Clocked()


@pytest.fixture
def logs() -> Iterator[CapturedLogs]:
    with captured_logs(level="info") as captured:
        yield captured


def lines(logs: CapturedLogs, event: str) -> list[str]:
    return [line for line in logs.from_millrace.getvalue().splitlines() if f'"{event}"' in line]


def test_a_model_fails_until_it_answers_and_is_unsteady_for_a_minute(clocked: Clocked) -> None:
    assert clocked.report().fared.condition is Condition.UNKNOWN
    clocked.answered()
    assert clocked.report().fared.condition is Condition.OK
    clocked.now += 10
    clocked.failed("answered HTTP 503")
    clocked.now += 20
    clocked.failed("answered HTTP 500")
    fared = clocked.report().fared
    assert (fared.condition, fared.failing_since, fared.failed_at) == (Condition.FAILING, WALL + 10, WALL + 30)
    assert (fared.cause, fared.answered_at, fared.last_minute) == ("answered HTTP 500", WALL, 2)
    clocked.answered()
    fared = clocked.report().fared
    assert (fared.condition, fared.failing_since) == (Condition.DEGRADED, None)
    clocked.now += 70
    fared = clocked.report().fared
    assert (fared.condition, fared.last_minute, fared.last_minutes) == ("ok", 0, 2)
    clocked.now += 300
    fared = clocked.report().fared
    assert fared.last_minutes == 0
    assert fared.causes == {"answered HTTP 503": 1, "answered HTTP 500": 1}
    assert clocked.report(Tier.SMALL).fared.condition is Condition.UNKNOWN


def test_a_model_fails_if_all_its_deployments_do(clocked: Clocked) -> None:
    """One that answers makes it unsteady; what is counted adds up."""
    clocked.answered("eu")
    clocked.failed("answered HTTP 500", "us")
    report = clocked.report(Tier.SMALL)
    assert report.fared.condition is Condition.DEGRADED
    assert [place.fared.condition for place in report.places] == [Condition.OK, Condition.FAILING]
    clocked.now += 5
    clocked.failed("answered HTTP 503", "eu")
    report = clocked.report(Tier.SMALL)
    assert (report.fared.condition, report.fared.failing_since) == (Condition.FAILING, WALL + 5)
    assert (report.fared.cause, report.fared.last_minute) == ("answered HTTP 503", 2)
    assert report.fared.causes == {"answered HTTP 500": 1, "answered HTTP 503": 1}


def test_the_record_is_bounded(clocked: Clocked) -> None:
    """However many failures there are, and however many kinds of them."""
    for number in range(10_000):
        clocked.now += 0.5
        clocked.failed(f"answered HTTP {number}")
    fared = clocked.report().fared
    assert (len(fared.causes), sum(fared.causes.values())) == (MAX_CAUSES + 1, 10_000)
    assert next(iter(fared.causes)) == "other"
    assert fared.last_minute == pytest.approx(120, abs=11)
    assert fared.last_minutes == pytest.approx(600, abs=11)


def test_a_cause_is_logged_once_a_minute(clocked: Clocked, logs: CapturedLogs) -> None:
    """Each cause of each deployment by itself, also within one second."""
    for label in ("eu", ""):
        for cause in ("answered HTTP 503", "sent no first token within 60 s"):
            for _ in range(5):
                clocked.failed(cause, label)
    told = lines(logs, "model failed")
    assert len(told) == 4
    assert all('"level":"warning"' in line and "left_out" not in line for line in told)
    assert sum('"deployment":"eu"' in line and "HTTP 503" in line for line in told) == 1
    clocked.now += 59
    clocked.failed("answered HTTP 503")
    assert len(lines(logs, "model failed")) == 4


def test_the_next_line_of_a_cause_says_how_many_were_left_out(clocked: Clocked, logs: CapturedLogs) -> None:
    for _ in range(5):
        clocked.failed("answered HTTP 503")
    clocked.now += 61
    with captured_logs() as later:  # the log's own throttle goes by a real clock
        clocked.failed("answered HTTP 503")
    assert '"left_out":4' in later.from_millrace.getvalue()
    assert "left_out" not in logs.from_millrace.getvalue()


def test_a_model_that_answers_again_is_logged_once(clocked: Clocked, logs: CapturedLogs) -> None:
    for _ in range(5):
        clocked.failed("answered HTTP 503")
        clocked.answered()
    assert logs.from_millrace.getvalue().count("model answers again") == 1


async def probed(clocked: Clocked, place: Place) -> None:
    """Let a probe run to its end."""
    clocked.health.sweep(clocked.now)
    assert place.probe is not None
    await place.probe[0].done
    clocked.health.sweep(clocked.now)


async def test_a_time_that_a_provider_names_is_waited_for_a_minute_at_most(clocked: Clocked) -> None:
    """Then a probe comes, before any request does."""
    assert clocked.health.wait(Tier.LARGE) is None
    clocked.failed("answered HTTP 429", retry_after_ms=12_400)
    wait = clocked.health.wait(Tier.LARGE)
    assert wait is not None
    assert wait.message == "large-model answered HTTP 429, not to be asked for 13 s more"
    assert wait.retry_after_ms == pytest.approx(12_400, abs=1)
    assert clocked.health.wait(Tier.SMALL) is None
    clocked.health.sweep(clocked.now)
    assert clocked.upstream.attempts == []
    clocked.now += 12.5
    await probed(clocked, clocked.place(""))
    assert clocked.health.wait(Tier.LARGE) is None
    clocked.failed("answered HTTP 429", retry_after_ms=3_600_000)
    clocked.now += 59
    clocked.health.sweep(clocked.now)
    assert len(clocked.upstream.attempts) == 1
    clocked.now += 2
    await probed(clocked, clocked.place(""))
    assert clocked.health.wait(Tier.LARGE) is None


def test_a_tier_is_waited_for_only_when_no_deployment_of_it_can_be_asked(clocked: Clocked) -> None:
    clocked.failed("answered HTTP 429", "eu", 5000)
    assert clocked.health.wait(Tier.SMALL) is None
    clocked.failed("answered HTTP 429", "us", 9000)
    wait = clocked.health.wait(Tier.SMALL)
    assert wait is not None
    assert wait.message == (
        "small-model at eu answered HTTP 429, not to be asked for 5 s more; "
        "small-model at us answered HTTP 429, not to be asked for 9 s more"
    )
    assert wait.retry_after_ms == pytest.approx(5000, abs=1)


async def test_a_deployment_that_keeps_failing_is_left_alone_until_a_probe_is_answered(
    clocked: Clocked, logs: CapturedLogs
) -> None:
    place = clocked.place("eu")
    for _ in range(FAILURES):
        assert place.breaker.is_closed
        clocked.failed("answered HTTP 500", "eu")
    (shown, _) = clocked.report(Tier.SMALL).places
    assert (shown.breaker, shown.why) == (State.OPEN, "answered HTTP 500, not to be asked until it answers a probe")
    clocked.upstream.scripts = [[error("answered HTTP 500")], ["Ready.", STOP]]
    clocked.health.sweep(clocked.now)
    assert place.breaker.state is State.PROBING
    clocked.health.sweep(clocked.now)
    assert len(clocked.upstream.attempts) == 1  # one at a time
    assert place.probe is not None
    with pytest.raises(UpstreamError):
        await place.probe[0].done
    clocked.health.sweep(clocked.now)
    clocked.now += 0.9
    clocked.health.sweep(clocked.now)
    assert len(clocked.upstream.attempts) == 1  # one a second
    clocked.now += 0.2
    await probed(clocked, place)
    assert place.breaker.is_closed
    assert len(lines(logs, "model left alone")) == 1
    assert len(lines(logs, "model answers again")) == 1


async def test_a_request_that_is_at_fault_opens_nothing(clocked: Clocked) -> None:
    """Nor does a call that began before the deployment answered its probe."""
    place = clocked.place("eu")
    refused = error("answered HTTP 400")
    refused.rule = Rule(400, retry=False, type="invalid_request_error")
    for _ in range(3 * FAILURES):
        clocked.health.failed(place, refused, clocked.now)
    assert place.breaker.is_closed
    for _ in range(FAILURES):
        clocked.failed("answered HTTP 500", "eu")
    began_at = clocked.now
    clocked.now += 1
    await probed(clocked, place)
    for _ in range(FAILURES):
        clocked.health.failed(place, error("sent no first token within 60 s"), began_at)
    assert place.breaker.is_closed


class Successor:
    """The health of the same models after a change, whose small one is at some of the places it was at, and others."""

    def __init__(self, before: Clocked, *labels: str, model: Model = SMALL) -> None:
        known = {place.deployment.label: place.upstream for place in before.health.pools["small"].places}
        places = [(Deployment(label=label), known.get(label, ScriptedUpstream(["Ready.", STOP]))) for label in labels]
        large = before.health.pools["large"].places[0]
        pools = [
            Pool(model, places, before.clock),
            Pool(LARGE, [(Deployment(), large.upstream)], before.clock),
        ]
        self.health = Health(pools, CATALOG, before.clock, lambda: WALL)
        self.health.take_over(before.health)


@pytest.fixture
def apart() -> Clocked:
    """Each deployment with an upstream of its own."""
    clocked = Clocked()
    for place in clocked.health.places:
        place.upstream = ScriptedUpstream(["Ready.", STOP])
    return clocked


def test_what_is_known_of_deployments_that_stay_goes_on(apart: Clocked) -> None:
    """Their record, their breaker, their load, and who is bound to them. Others begin anew."""
    for _ in range(FAILURES):
        apart.failed("is down", "eu")
    apart.answered("us")
    before = apart.health.pools["small"]
    assert label_of(before.choose("session")) == "us"
    before.take(apart.place("us"))
    after = Successor(apart, "us", "new", "eu", model=replace(SMALL, price=LARGE.price)).health
    us, new, eu = after.pools["small"].places
    assert [place.breaker.state for place in (us, new, eu)] == [State.CLOSED, State.CLOSED, State.OPEN]
    assert (us.running, new.running) == (1, 0)
    assert us.model.price == LARGE.price
    assert label_of(after.pools["small"].choose("session")) == "us"
    small = after.reports()[0]
    assert [place.fared.condition for place in small.places] == [Condition.OK, Condition.UNKNOWN, Condition.FAILING]


def test_another_model_at_the_same_place_begins_anew(apart: Clocked) -> None:
    for _ in range(FAILURES):
        apart.failed("is down", "eu")
    after = Successor(apart, "eu", model=replace(SMALL, id="other-model")).health
    (eu,) = after.pools["small"].places
    assert eu.breaker.state is State.CLOSED


async def test_a_probe_of_a_deployment_that_stays_goes_on(apart: Clocked) -> None:
    """And one of a deployment that goes is closed with the health that began it."""
    for label in ("eu", "us"):
        for _ in range(FAILURES):
            apart.failed("is down", label)
    apart.health.sweep(apart.now)
    after = Successor(apart, "eu").health
    probes = {place.deployment.label: place.probe for place in apart.health.places}
    apart.health.close(after.places)
    (eu,) = after.pools["small"].places
    assert eu.probe is not None
    assert eu.probe is probes["eu"]
    assert probes["us"] is not None
    assert probes["us"][0].done.cancelled()
    await eu.probe[0].done
    after.sweep(apart.now)
    assert eu.breaker.state is State.CLOSED


def label_of(place: Place | None) -> str:
    assert place is not None
    return place.deployment.label
