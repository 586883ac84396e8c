"""How a request finds its provider: straight, or through the proxy that the environment names."""

import pytest
from msgspec.structs import replace

from millrace.upstreams import connections
from millrace.upstreams.attempt import HttpUpstream
from millrace.upstreams.chat.api import CHAT
from tests.support.provider import CALL, DONE, END, HEAD, Provider, body, event, says, scripted_provider

ANSWER = HEAD + body(event("Hi"), event(finish="stop"), DONE) + END


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    connections._proxy_of.cache_clear()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def asked(provider: Provider, url: str) -> str:
    """Ask a provider at a URL; return the head of the request."""
    provider.upstream.endpoint = replace(provider.upstream.endpoint, base_url=url)
    upstream = HttpUpstream(CHAT, provider.upstream._connections, provider.upstream.endpoint, provider.upstream.clock)
    attempt = upstream.open(CALL)
    await attempt.done
    assert attempt.parts == ["Hi"]
    return provider.requests[-1][0]


async def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its user and password, which the provider never sees as its own."""
    async with scripted_provider(says(ANSWER)) as provider:
        address = provider.upstream.endpoint.base_url.removeprefix("http://").removesuffix("/v1/")
        monkeypatch.setenv("HTTP_PROXY", f"http://ann:secret@{address}")
        head = await asked(provider, "http://models.example/v1")
    assert head.startswith("POST http://models.example/v1/chat/completions HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic YW5uOnNlY3JldA==" in head
    assert "Host: models.example\r\n" in head


async def test_no_proxy_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a proxy of the other scheme is none."""
    async with scripted_provider(says(ANSWER)) as provider:
        url = provider.upstream.endpoint.base_url
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
        assert (await asked(provider, url)).startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    monkeypatch.delenv("HTTP_PROXY")
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    async with scripted_provider(says(ANSWER)) as provider:
        url = provider.upstream.endpoint.base_url
        assert (await asked(provider, url)).startswith("POST /v1/chat/completions HTTP/1.1\r\n")


async def test_netrc_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its password is for another program."""
    home = tmp_path_factory.mktemp("home")
    (home / ".netrc").write_text("machine 127.0.0.1 login ann password secret\n")
    monkeypatch.setenv("NETRC", str(home / ".netrc"))
    async with scripted_provider(says(ANSWER)) as provider:
        assert "Authorization" not in await asked(provider, provider.upstream.endpoint.base_url)
