"""Which settings change while a server runs, and which need a restart."""

import pytest

from millrace.settings import Settings
from millrace.settings.changes import LIVE, differences, merged
from tests.ground.test_settings import build


def test_every_section_that_changes_exists() -> None:
    """A key that is not named needs a restart, so that a new one is never taken over without anybody's doing it."""
    for section, keys in LIVE.items():
        assert section in Settings.__struct_fields__
        known = type(getattr(build(), section)).__struct_fields__
        assert keys == "*" or set(keys) <= set(known)


@pytest.mark.parametrize(
    ("path", "value", "is_live"),
    [
        ("models.small.price.output", "0.61", True),
        ("models.small.deployments", [{"base_url": "http://127.0.0.1:3/v1"}], True),
        ("models.aliases.fast", "small", True),
        ("models.large.tier_prices.flex", {"input": "1", "output": "2"}, True),
        ("funnel.strategy", "large", True),
        ("funnel.hedge_share", 0.2, True),
        ("router.keep_quality", 0.98, True),
        ("checks.off", ["empty"], True),
        ("guards.secrets", True, True),
        ("limits.dollars_per_day", "3", True),
        ("limits.tenant.in_flight", 3, True),
        ("budgets.webhook", "https://hooks.example/millrace", True),
        ("server.origins", ["https://app.example"], True),
        ("cache.semantic", False, True),
        ("evidence.dollars_per_day", "0", True),
        ("evidence.judged", True, False),
        ("cache.ttl_s", 5, True),
        ("cache.memory_bytes", 10**6, False),
        ("server.host", "0.0.0.0", False),
        ("server.max_running", 5, False),
        ("server.data_dir", "elsewhere", False),
    ],
)
def test_a_change_holds_at_once_or_is_named(path: str, value: object, is_live: bool) -> None:
    before, found = build(), build((path, value))
    come = merged(before, before, found)
    assert (come.changed, come.restart) == (([path], []) if is_live else ([], [path]))
    assert come.settings == (found if is_live else before)


def test_what_needs_a_restart_is_named_until_then_and_the_rest_changes_back_and_forth() -> None:
    first, second = build(), build(("server.port", 1), ("funnel.strategy", "large"))
    now = merged(first, first, second)
    assert (now.changed, now.restart) == (["funnel.strategy"], ["server.port"])
    again = merged(first, now.settings, second)
    assert (again.changed, again.restart) == ([], ["server.port"])
    back = merged(first, now.settings, first)
    assert (back.changed, back.restart) == (["funnel.strategy"], [])


def test_a_cache_that_was_off_at_the_start_stays_off() -> None:
    """One that was on can be switched off and on."""
    off, on = build(("cache.semantic", False), ("cache.exact", False)), build()
    come = merged(off, off, on)
    assert (come.changed, come.restart) == ([], ["cache.exact", "cache.semantic"])
    assert merged(on, off, on).changed == ["cache.exact", "cache.semantic"]


def test_whole_sections_that_come_and_go_are_one_change() -> None:
    with_embeddings = build(
        ("models.embeddings", {"base_url": "http://127.0.0.1:3/v1", "model": "vectors", "price": {"input": "1"}})
    )
    assert [*differences(build(), with_embeddings)] == ["models.embeddings"]
    assert [*differences(with_embeddings, build())] == ["models.embeddings"]
