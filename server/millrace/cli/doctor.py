"""`millrace doctor`: asks each model one word, looks at this machine, and says what to do."""

import asyncio
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table
from rich.text import Text

from millrace import assembly, pricing, settings, tokens
from millrace.cli import configuration, findings
from millrace.cli.findings import Finding, State
from millrace.errors import UpstreamError
from millrace.memory import MemoryBudget
from millrace.ports import EmbeddingsUpstream, Upstream
from millrace.runs.embeddings import EmbeddingModel
from millrace.settings import EmbedderSettings, EmbeddingsSettings, ModelSettings, Settings, SettingsError
from millrace.types import Call, Deployment, Message, Model, Price, Prompt, Usage

WRONG = 1  # exit code
QUESTION = "Answer with one word: ready"
WORD = "ready"  # to embed
CAP = 64  # output tokens; it also shows whether the model takes a cap under the configured name

_COLOURS = {State.FINE: "green", State.NOTE: "yellow", State.WRONG: "red"}


_APIS = {"responses": "Responses", "anthropic": "Messages"}


class _Vector(Struct):
    embedding: list[float]


class _Vectors(Struct):
    """What is read of an answer with embeddings."""

    data: list[_Vector]


@click.command()
@configuration.config_option
@click.option("--timeout", type=click.FloatRange(0.1), default=20.0, show_default=True, help="Seconds for a model.")
def doctor(config: Path, timeout: float) -> None:
    """Check what a server needs: models, keys, port, folder. It asks each model one word, which may cost a little.

    Exits with 1 if something is wrong.
    """
    try:
        loaded = settings.load(config, os.environ)
    except SettingsError as error:
        found = [Finding(subject=fault.path, state=State.WRONG, text=fault.message) for fault in error.faults]
    else:
        found = asyncio.run(_examine(loaded, config, timeout))
    _print(found, config)
    sys.exit(WRONG if any(finding.state is State.WRONG for finding in found) else 0)


async def _examine(loaded: Settings, config: Path, within_s: float) -> list[Finding]:
    server = loaded.server
    async with (
        assembly.served(loaded) as served,
        assembly.embeddings_upstream(loaded) as embeddings,
        assembly.embedder_upstream(loaded) as embedder,
        asyncio.TaskGroup() as tasks,
    ):
        asked = [tasks.create_task(_ask(*each, within_s)) for each in served]
        if embeddings is not None:
            asked.append(tasks.create_task(_embed(*embeddings, loaded, within_s)))
        if embedder is not None:
            asked.append(tasks.create_task(_find(embedder, loaded, within_s)))
    keys = await findings.keys(server, loaded.shared, is_new=not await asyncio.to_thread(Path(server.data_dir).is_dir))
    local = [findings.folder(server), findings.lock(server), keys, findings.port(server)]
    local += await asyncio.to_thread(findings.left_alone, server)
    local += await asyncio.to_thread(findings.collector, loaded)
    read = Finding(subject="configuration", text=f"{config} has no faults")
    return [read, *(task.result() for task in asked), *findings.prices(loaded), *local, *findings.parts(loaded)]


async def _ask(
    model: Model, configured: ModelSettings, deployment: Deployment, upstream: Upstream, within_s: float
) -> Finding:
    """Ask a deployment of a model one word."""
    place = f" at {deployment.label}" if deployment.label else ""
    subject, started = f"{model.name} model{place}", time.monotonic()
    prompt = Prompt(messages=(Message(role="user", parts=(QUESTION,)),), max_output_tokens=CAP)
    attempt = upstream.open(Call(model=model, prompt=prompt))
    try:
        async with asyncio.timeout(within_s):
            await attempt.done
    except (UpstreamError, TimeoutError) as error:
        text = error.message if isinstance(error, UpstreamError) else f"{model.id} did not end within {within_s:g} s"
        return Finding(subject=subject, state=State.WRONG, text=text, advice=_advice(text, configured))
    finally:
        attempt.abort()
    usage = attempt.usage or Usage(
        input_tokens=tokens.estimate(prompt.size),
        output_tokens=tokens.running_output(attempt.parts, attempt.asides),
        estimated=True,
    )
    encoding = model.encoding
    counted = f"counts as {encoding.name}" if encoding.is_own else f"counted in {encoding.name}, which is an estimate"
    text = f"{model.id} answered in {_bill(usage, model.price, started)}; {counted}"
    if configured.upstream == "anthropic" and model.price.cache_write is None:
        advice = "add cache_write to its price: prompts are written to the provider's cache, which costs more"
        return Finding(subject=subject, state=State.NOTE, text=text, advice=advice)
    return Finding(subject=subject, text=text)


async def _embed(model: EmbeddingModel, upstream: EmbeddingsUpstream, loaded: Settings, within_s: float) -> Finding:
    """Let a model embed one word."""
    subject, started = "embeddings", time.monotonic()
    configured = loaded.models.embeddings
    assert configured is not None, "its upstream was opened"
    text, length, input_tokens = await _vector(upstream, {"model": model.id, "input": WORD}, loaded, within_s)
    if not length:
        return Finding(subject=subject, state=State.WRONG, text=text, advice=_advice(text, configured))
    used = Usage(input_tokens=input_tokens or tokens.estimate(len(WORD)), estimated=input_tokens is None)
    return Finding(subject=subject, text=f"{text} in {_bill(used, model.price, started)}")


async def _find(upstream: EmbeddingsUpstream, loaded: Settings, within_s: float) -> Finding:
    """Let the embedder of the semantic cache embed one word."""
    subject, started = "cache embedder", time.monotonic()
    configured = loaded.cache.embedder
    assert configured is not None, "its upstream was opened"
    body: dict[str, object] = {"model": configured.model, "input": [WORD]}
    body |= {"dimensions": configured.dimensions} if configured.shortened else {}
    text, length, _ = await _vector(upstream, body, loaded, within_s)
    if not length:
        return Finding(subject=subject, state=State.WRONG, text=text, advice=_advice(text, configured))
    took_s = time.monotonic() - started
    text = f"{text} in {took_s * 1000:.0f} ms"
    if length != configured.dimensions:
        advice = f"write dimensions = {length} in [cache.embedder], not {configured.dimensions}"
        return Finding(subject=subject, state=State.WRONG, text=text, advice=advice)
    if took_s > configured.timeout_s:
        advice = f"that is more than timeout_s ({configured.timeout_s:g}): such lookups are misses; is it so each time?"
        return Finding(subject=subject, state=State.NOTE, text=text, advice=advice)
    return Finding(subject=subject, text=text)


async def _vector(
    upstream: EmbeddingsUpstream, body: Mapping[str, object], loaded: Settings, within_s: float
) -> tuple[str, int, int | None]:
    """Have a word embedded; return what became of it, the length of the vector, 0 if there is none, and its tokens."""
    held, model = MemoryBudget(loaded.server.memory_bytes).hold(""), body["model"]
    call = upstream.open(msgspec.json.encode(body), held)
    try:
        async with asyncio.timeout(within_s):
            embedded = await call.done
        (vector,) = msgspec.json.decode(b"".join(embedded.pieces), type=_Vectors).data
    except TimeoutError:
        return f"{model} did not end within {within_s:g} s", 0, None
    except UpstreamError as error:
        return error.message, 0, None
    except ValueError:  # also what msgspec raises
        return f"{model} answered without a vector", 0, None
    if not (length := len(vector.embedding)):
        return f"{model} answered without a vector", 0, None
    return f"{model} made a vector of {length} numbers", length, embedded.input_tokens


def _bill(usage: Usage, price: Price, started: float) -> str:
    """Return how long an answer took, its tokens and its cost. `started` is in seconds of the monotonic clock."""
    took_ms = (time.monotonic() - started) * 1000
    counted = f"{usage.input_tokens + usage.output_tokens} tokens{', estimated' if usage.estimated else ''}"
    return f"{took_ms:.0f} ms ({counted}, ${pricing.cost(usage, price):.6f})"


def _advice(text: str, model: ModelSettings | EmbeddingsSettings | EmbedderSettings) -> str:
    """Return what to do about what a model or its server said."""
    key = f"the key in {model.api_key_env}" if model.api_key_env else "its key: name its variable in api_key_env"
    is_simulated = "127.0.0.1:900" in model.base_url  # as in the shipped configuration
    simulated = f", for simulated models: {configuration.program()} simulate" if is_simulated else ""
    other_api = ""
    if isinstance(model, ModelSettings) and model.upstream != "openai":
        other_api = f'; if its server has no {_APIS[model.upstream]} API, write upstream = "openai"'
    cap = model.quirks.max_tokens_field if isinstance(model, ModelSettings) else None
    for pattern, advice in (
        (r"HTTP 40[13]", f"check {key}"),
        (r"HTTP 404", f"check base_url ({model.base_url}; it often ends in /v1) and model ({model.model}){other_api}"),
        (
            r"max_(completion_)?tokens",
            f"set max_tokens_field in quirks to the name it asks for, not {cap!r}",
        ),
        (r"HTTP (429|503|529)", "wait, or check the quota and the bill at the provider"),
        (r"could not be reached", f"start its server{simulated}; or correct base_url ({model.base_url})"),
        (r"event stream", f"correct base_url ({model.base_url}): no chat completions are streamed there"),
        (
            r"no embeddings|without a vector",
            f"correct base_url ({model.base_url}), or name a model that makes embeddings",
        ),
        (r"within", f"check its server ({model.base_url}); a model that loads slowly needs --timeout"),
    ):
        if re.search(pattern, text):
            return advice
    return f"check base_url ({model.base_url}) and model ({model.model})"


def _print(found: list[Finding], config: Path) -> None:
    table = Table("", "looked at", "found", "what to do", title_justify="left")
    for finding in found:
        state = Text(finding.state.value, style=_COLOURS[finding.state])
        table.add_row(state, Text(finding.subject), Text(finding.text), Text(finding.advice))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(table)
    wrong = sum(finding.state is State.WRONG for finding in found)
    option = "" if config == Path("millrace.toml") else f" --config {config}"
    step = f"{configuration.program()} {'doctor' if wrong else 'serve'}{option}"
    again = f"{wrong} thing{'s' * (wrong != 1)} to mend; then run again: {step}"
    console.print(Text(again if wrong else f"Nothing is wrong. Next: {step}"))
