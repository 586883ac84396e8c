"""Every test of this room that calls a provider does so over our own connections, and over aiohttp's."""

import inspect

import pytest

from millrace.upstreams.connections import Connections


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.parametrize("reader", [False, True], ids=["pushed", "pulled"], indirect=True)


@pytest.fixture(autouse=True)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Connections.__init__.__kwdefaults__
    assert defaults is not None, "it has some"
    monkeypatch.setitem(defaults, "pulls", getattr(request, "param", False))
