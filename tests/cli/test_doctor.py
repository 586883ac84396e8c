"""`millrace doctor`: what is wrong is named, with what to do, and the exit code says whether anything is."""

import asyncio
import fcntl
import json
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from millrace import settings
from millrace.cli import findings
from millrace.simulator import LARGE, SMALL, Simulator
from tests.support import messages_server, messages_wire, responses_wire as wire
from tests.support.paths import REPOSITORY
from tests.support.ports import free_port
from tests.support.processes import ENVIRONMENT
from tests.support.responses_server import always, responding
from tests.support.server import without_delays
from tests.support.waiting import PATIENCE_S

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def configured(
    folder: Path,
    small_url: str | None = None,
    embeddings_url: str | None = None,
    upstream: str = "openai",
    **server: object,
) -> AsyncIterator[Path]:
    """Write a configuration with two models; the large one is simulated, and so is the small one without a URL.

    `upstream` is the small one's API. With `embeddings_url`, one for embeddings too; "simulated" is the small one's
    server.
    """
    async with Simulator(without_delays(SMALL)) as small, Simulator(without_delays(LARGE)) as large:
        tables = {"port": free_port(), "data_dir": str(folder / "data"), **server}
        lines = ["[server]", *(f"{name} = {json.dumps(value)}" for name, value in tables.items())]
        models = (("small", small_url or small.base_url, upstream), ("large", large.base_url, "openai"))
        for name, url, api in models:
            lines += [f"[models.{name}]", f'upstream = "{api}"', f'base_url = "{url}"', f'model = "{name}-model"']
            lines += ['price = { input = "1", output = "2" }']
        if embeddings_url is not None:
            url = small.base_url if embeddings_url == "simulated" else embeddings_url
            lines += ["[models.embeddings]", f'base_url = "{url}"', 'model = "embeddings-model"']
            lines += ['price = { input = "3" }']
        config = folder / "millrace.toml"
        config.write_text("\n".join(lines))
        yield config


@asynccontextmanager
async def provider(handler: Handler) -> AsyncIterator[str]:
    """Run a server that answers every request in one way."""
    runner = web.AppRunner(_application(handler), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def _application(handler: Handler) -> web.Application:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    return application


async def doctor(config: Path, *arguments: str, **environ: str) -> tuple[int, str]:
    """Run it; return its exit code, and what it prints with single spaces."""
    command = [sys.executable, str(REPOSITORY / "server"), "doctor", "--config", str(config), *arguments]
    run = subprocess.run
    env = ENVIRONMENT | environ
    ended = await asyncio.to_thread(
        run, command, cwd=config.parent, env=env, capture_output=True, text=True, timeout=PATIENCE_S * 2
    )
    assert ended.stderr == ""
    return ended.returncode, ended.stdout


def row(printed: str, subject: str) -> tuple[str, str]:
    """Return the state of a row, and all that is in it."""
    found = re.search(rf"│ (\w+) +│ {re.escape(subject)} +│(.*?)(?=\n[│├└] \w|\n└)", printed, re.DOTALL)
    assert found, printed
    return found[1], " ".join(found[2].replace("│", " ").split())


async def test_where_all_is_well_it_says_what_each_model_took_and_cost(tmp_path: Path) -> None:
    async with configured(tmp_path) as config:
        code, printed = await doctor(config)
    assert code == 0
    for tier in ("small", "large"):
        state, text = row(printed, f"{tier} model")
        assert state == "fine"
        assert re.search(rf"{tier}-model answered in \d+ ms \(\d+ tokens, \$0\.0000\d\d\)", text)
        assert row(printed, f"{tier} price")[1].endswith("$1 in, $2 out for a million tokens; from the configuration")
    assert row(printed, "data_dir")[0] == row(printed, "port")[0] == row(printed, "lock")[0] == "fine"
    assert row(printed, "keys")[1].startswith("none: only this machine has access")
    assert f"Nothing is wrong. Next: millrace serve --config {config}" in printed
    assert not (tmp_path / "data").exists()  # looking makes nothing


def test_each_price_is_told_with_where_it_comes_from() -> None:
    """Of a list too, with long input and service tiers."""
    listed = {"upstream": "openai", "base_url": "http://a/v1", "model": "gemini-2.5-pro", "provider": "gemini"}
    price = {"input": "1", "output": "2", "cache_write": "1.25", "source": "our contract"}
    noted = {"upstream": "openai", "base_url": "http://b/v1", "model": "b", "price": price}
    loaded = settings.build({"models": {"small": listed, "large": noted}}, {})
    found = {each.subject: each.text for each in findings.prices(loaded)}
    assert found["large price"] == "$1 in, $2 out, $1.25 written to the cache for a million tokens; from our contract"
    assert found["small price"].startswith(
        "$1.25 in, $10 out, $0.125 cached for a million tokens; $2.5 in, $15 out, $0.25 cached above 200000 tokens of"
        " input; others for batch; from genai-prices "
    )


async def test_each_deployment_is_asked_and_those_that_a_server_leaves_alone_are_named(tmp_path: Path) -> None:
    """With the address and the key that are its own."""
    async with provider(refusing(401, "no")) as locked, configured(tmp_path) as config:
        port = int(re.findall(r"port = (\d+)", config.read_text())[0])
        given = config.read_text().replace(
            "[models.large]",
            f"""fallback = ["spare"]
[[models.small.deployments]]
region = "eu"
[[models.small.deployments]]
base_url = "{locked}"
api_key_env = "OF_US"
region = "us"
[models.more.spare]
upstream = "openai"
base_url = "{locked}"
model = "spare-model"
price = {{ input = "1", output = "2" }}
[models.large]""",
        )
        config.write_text(given)
        code, printed = await doctor(config, OF_US="sk-us")
        assert code == 1
        assert row(printed, "small model at eu")[0] == "fine"
        state, text = row(printed, "small model at us")
        assert (state, "refused the key (HTTP 401)" in text, "check the key in OF_US" in text) == ("wrong", True, True)
        assert row(printed, "spare model")[0] == "wrong"
        async with left_alone(port):
            code, printed = await doctor(config, OF_US="sk-us")
        state, text = row(printed, "small model eu")
        assert (state, text.startswith("the running server leaves it alone: answered HTTP 500")) == ("note", True)


@asynccontextmanager
async def left_alone(port: int) -> AsyncIterator[None]:
    """Run what answers like a server that leaves a deployment alone."""
    deployments = [{"label": "eu", "breaker": "open", "why": "answered HTTP 500"}, {"label": "us", "breaker": "closed"}]
    models = [{"name": "small", "deployments": deployments}]

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"models": models, "epoch": "e", "version": "1"})

    runner = web.AppRunner(_application(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def test_a_model_of_the_messages_api_wants_a_price_for_what_it_writes_to_its_cache(tmp_path: Path) -> None:
    """And where there is no such API, it says so."""
    async with messages_server.messaging(messages_server.always(messages_wire.text("ready"))) as server:
        async with configured(tmp_path, server.url, upstream="anthropic") as config:
            code, printed = await doctor(config)
        assert code == 0
        state, text = row(printed, "small model")
        assert state == "note"
        assert "small-model answered in" in text
        assert "add cache_write to its price" in text
    async with provider(refusing(404, "no")) as url, configured(tmp_path, url, upstream="anthropic") as config:
        code, printed = await doctor(config)
    assert code == 1
    assert 'if its server has no Messages API, write upstream = "openai"' in row(printed, "small model")[1]


def refusing(status: int, message: str) -> Handler:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": message}}, status=status)

    return refuse


async def silent(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


@pytest.mark.parametrize(
    ("handler", "found", "advice"),
    [
        (refusing(401, "no"), "refused the key (HTTP 401)", "name its variable in api_key_env"),
        (refusing(404, "no such model"), "HTTP 404: no such model", "check base_url (http://127.0.0.1"),
        (refusing(400, "Unsupported parameter: 'max_tokens'"), "HTTP 400", "set max_tokens_field"),
        (refusing(429, "quota"), "HTTP 429: quota", "check the quota"),
        (silent, "did not end within 1 s", "check its server"),
    ],
    ids=["401", "404", "the cap's name", "429", "silence"],
)
async def test_what_a_model_says_is_told_with_what_to_do(
    tmp_path: Path, handler: Handler, found: str, advice: str
) -> None:
    async with provider(handler) as url, configured(tmp_path, url) as config:
        code, printed = await doctor(config, "--timeout", "1")
    state, text = row(printed, "small model")
    assert (code, state) == (1, "wrong")
    assert found in text
    assert advice in text
    assert "1 thing to mend" in printed


async def test_a_model_behind_the_responses_api_is_asked_there(tmp_path: Path) -> None:
    """A server that has no such API is told apart from one that has no such model."""
    async with (
        responding(always(wire.message("ready"))) as server,
        configured(tmp_path, server.url, upstream="responses") as config,
    ):
        code, printed = await doctor(config)
    assert code == 0
    assert "answered in" in row(printed, "small model")[1]
    assert (server.asked[0]["max_output_tokens"], server.refused) == (64, [])
    async with provider(refusing(404, "Not Found")) as url, configured(tmp_path, url, upstream="responses") as config:
        code, printed = await doctor(config)
    assert code == 1
    assert 'if its server has no Responses API, write upstream = "openai"' in row(printed, "small model")[1]


async def test_the_model_for_embeddings_embeds_one_word(tmp_path: Path) -> None:
    """And it is told what that took and cost; without such a model there is no row."""
    async with configured(tmp_path, embeddings_url="simulated") as config:
        code, printed = await doctor(config)
    state, text = row(printed, "embeddings")
    assert (code, state) == (0, "fine")
    assert re.search(r"embeddings-model made a vector of \d+ numbers in \d+ ms \(\d+ tokens, \$0\.0000\d\d\)", text)
    async with configured(tmp_path) as config:
        _, printed = await doctor(config)
    assert not re.search("│ embeddings +│", printed)


def answering(body: bytes) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    return answer


@pytest.mark.parametrize(
    ("handler", "found", "advice"),
    [
        (refusing(401, "no"), "refused the key (HTTP 401)", "name its variable in api_key_env"),
        (refusing(404, "no such model"), "HTTP 404: no such model", "check base_url (http://127.0.0.1"),
        (answering(b"<html>"), "answered with what are no embeddings", "a model that makes embeddings"),
        (answering(b'{"choices": []}'), "answered without a vector", "a model that makes embeddings"),
        (answering(b'{"data": []}'), "answered without a vector", "a model that makes embeddings"),
        (answering(b'{"data": [{"embedding": []}]}'), "answered without a vector", "a model that makes embeddings"),
        (silent, "did not end within 1 s", "check its server"),
    ],
    ids=["401", "404", "a page", "a chat model", "nothing", "an empty vector", "silence"],
)
async def test_what_the_model_for_embeddings_says_is_told_with_what_to_do(
    tmp_path: Path, handler: Handler, found: str, advice: str
) -> None:
    async with provider(handler) as url, configured(tmp_path, embeddings_url=url) as config:
        code, printed = await doctor(config, "--timeout", "1")
    state, text = row(printed, "embeddings")
    assert (code, state) == (1, "wrong")
    assert found in text
    assert advice in text


async def test_a_model_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    async with configured(tmp_path, f"http://127.0.0.1:{free_port()}/v1") as config:
        code, printed = await doctor(config)
    state, text = row(printed, "small model")
    assert (code, state) == (1, "wrong")
    assert "Connection refused" in text
    assert "start its server" in text


async def test_faults_of_the_file_and_a_missing_file_are_told(tmp_path: Path) -> None:
    code, printed = await doctor(tmp_path / "none.toml")
    assert code == 1
    assert "millrace init" in printed
    async with configured(tmp_path, prot=1) as config:
        code, printed = await doctor(config)
    assert (code, row(printed, "server.prot")[0]) == (1, "wrong")


async def test_a_port_is_taken_by_a_program_or_by_millrace_itself(tmp_path: Path) -> None:
    """The program is named where the system tells it; a server that runs is no fault."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with configured(tmp_path, port=listener.getsockname()[1]) as config:
            code, printed = await doctor(config)
    assert (code, row(printed, "port")[0]) == (1, "wrong")
    if sys.platform == "linux":
        assert re.search(r"is taken by \S+ \(pid \d+\)", row(printed, "port")[1])

    async def health(_: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok", "version": "9.9", "epoch": "e", "running": 0})

    async with provider(health) as url, configured(tmp_path, port=int(url.split(":")[2].split("/")[0])) as config:
        code, printed = await doctor(config)
    assert code == 0
    assert row(printed, "port") == ("note", row(printed, "port")[1])
    assert "is served by Millrace 9.9" in row(printed, "port")[1]


async def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """Something else has its name."""
    (tmp_path / "data").write_text("a file")
    async with configured(tmp_path) as config:
        code, printed = await doctor(config)
    assert (code, row(printed, "data_dir")[0]) == (1, "wrong")
    assert "name a writable folder" in row(printed, "data_dir")[1]


async def test_a_folder_that_another_server_uses_is_told_with_its_pid(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "millrace.lock").open("w") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        async with configured(tmp_path) as config:
            code, printed = await doctor(config)
    assert (code, row(printed, "lock")[0]) == (0, "note")
    assert "pid 4711" in row(printed, "lock")[1]


async def test_a_host_that_is_open_to_others_needs_a_key(tmp_path: Path) -> None:
    """As `serve` will say."""
    async with configured(tmp_path, host="0.0.0.0") as config:
        code, printed = await doctor(config)
        assert (code, row(printed, "keys")[0]) == (1, "wrong")
        assert "keys add --tenant NAME" in row(printed, "keys")[1]
        command = [sys.executable, str(REPOSITORY / "server"), "keys", "add", "--tenant", "acme", "--config"]
        await asyncio.to_thread(subprocess.run, [*command, str(config)], check=True, capture_output=True)
        code, printed = await doctor(config)
    assert (code, row(printed, "keys")) == (0, ("fine", "1 valid of 1"))


async def test_it_asks_one_word_and_no_more(tmp_path: Path) -> None:
    """With a cap, so that a model that wants it under another name is found out, and costs little."""
    bodies = []

    async def note(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return web.json_response({}, status=500)

    async with provider(note) as url, configured(tmp_path, url) as config:
        await doctor(config)
    (body,) = bodies
    assert body["max_tokens"] <= 64
    assert len(json.dumps(body["messages"])) < 100


@pytest.mark.parametrize(
    ("dimensions", "timeout_s", "state", "words"),
    [
        (256, 20, "fine", "embedder-model made a vector of 256 numbers in"),
        (1536, 20, "wrong", "write dimensions = 256 in [cache.embedder], not 1536"),
        (256, 0.0001, "note", "that is more than timeout_s (0.0001)"),
    ],
)
async def test_the_embedder_of_the_cache_embeds_a_word(
    tmp_path: Path, dimensions: int, timeout_s: float, state: str, words: str
) -> None:
    """The simulator makes vectors of 256 numbers."""
    async with Simulator(without_delays(SMALL)) as simulator, configured(tmp_path) as config:
        lines = [f'base_url = "{simulator.base_url}"', 'model = "embedder-model"', f"dimensions = {dimensions}"]
        section = "\n".join(["", "[cache.embedder]", *lines, f"timeout_s = {timeout_s}", ""])
        config.write_text(config.read_text() + section)
        code, printed = await doctor(config)
    found, text = row(printed, "cache embedder")
    assert (found, code) == (state, int(state == "wrong"))
    assert words in text
