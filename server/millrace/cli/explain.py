"""`millrace explain`: the whole story of one request, from the ledger, without a word of its text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from millrace.cli import configuration
from millrace.cli.cache import json_option
from millrace.cli.keys import data_dir_option
from millrace.cli.ledger import calls_table, named, on_rows
from millrace.cli.ledger_lines import STYLES, at, cents, who, whole
from millrace.cli.printed import plain, print_json, wide
from millrace.cli.repro import repro_of
from millrace.types import Entry
from millrace.wire import ledger as wire
from millrace.wire.ledger import LedgerEntry


@click.command()
@click.argument("request_id", metavar="ID")
@click.option(
    "--redacted-repro",
    "repro",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Also write a request of the same shape, without its text, that can be sent again; -: standard output.",
)
@json_option
@configuration.config_option
@data_dir_option
def explain(*, request_id: str, repro: Path | None, as_json: bool, config: Path, data_dir: str | None) -> None:
    """Tell what became of a request and why: what was cut, what the caches and the router said, each call and its cost.

    The beginning of its ID is enough. Nothing of its text is kept, so nothing of it is shown. With --redacted-repro a
    request of the same shape is written, with filler for every text: `millrace ask --repro FILE` sends it, and so does
    `curl -d @FILE -H 'Content-Type: application/json' http://127.0.0.1:8000/v1/responses`.
    """
    row: Entry = on_rows(config, data_dir, lambda rows: named(rows, request_id))
    shown = wire.entry(row)
    if repro is not None:
        _write_repro(row, repro)
    if as_json:
        print_json(shown)
    elif repro is None or str(repro) != "-":
        console = wide()
        for part in story(shown):
            console.print(part)


def _write_repro(row: Entry, file: Path) -> None:
    made = repro_of(row)
    if made is None:
        raise click.UsageError(
            "its shape is not known: it has not ended, was for embeddings, or is of an earlier version"
        )
    text, lacks = made
    if str(file) == "-":
        click.echo(text)
    else:
        try:
            file.write_text(text + "\n", "utf-8")
        except OSError as error:
            raise click.FileError(str(file), error.strerror) from None
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text(f"{file}: a request of the same shape; send it with: millrace ask --repro {file}"))
    console.print(Text(f"It lacks: {', '.join(lacks)}", style="dim"))


def story(row: LedgerEntry) -> Iterator[Any]:
    """Yield the parts of the page."""
    style = STYLES.get(row.status, "red")
    ended = row.status if row.code is None else f"{row.status}: {row.code}"
    yield Text.assemble((row.id, "bold"), "  ", (ended, style), f"  {at(row.opened_at)} UTC")
    yield _grid(_facts(row))
    if row.story.near:
        yield _section("Near questions, the likeliest first", _near(row))
    if row.calls:
        yield _section("Calls", calls_table(row))
    if row.story.verdicts:
        yield _section("What the checks said", _grid(_verdicts(row)))
    if row.story.failed:
        failed = [(failure.model, failure.code) for failure in row.story.failed]
        yield _section("Models that did not answer", _grid(failed))
    yield _section("What it cost", _grid(_bill(row)))


def _facts(row: LedgerEntry) -> Iterator[tuple[str, str]]:
    yield from (("tenant", row.tenant), ("key", row.key_id), ("user", row.user), ("tag", row.tag))
    yield "session", "" if row.session == row.id else row.session
    yield "batch", row.batch
    yield "asked", _asked(row)
    yield "trimmed", _trimmed(row)
    yield "exact cache", f"answered it{_age(row)}" if row.cache == "exact" else ""
    yield "semantic cache", _semantic(row)
    yield "joined", "an identical request that ran already; who began it pays" if row.cache == "joined" else ""
    yield "router", _router(row)
    yield "strategy", row.strategy
    yield "because", row.reason
    yield "failed check", row.failed_check or ""
    yield "answered by", who(row)
    yield "took", f"first word {whole(row.ttft_ms)} ms, whole {whole(row.latency_ms)} ms" if row.latency_ms else ""
    yield "from entry", row.entry_id
    yield "kept as entry", row.stored_id


def _asked(row: LedgerEntry) -> str:
    shape = row.shape
    if shape is None:
        return ""
    count = len(shape["messages"]) + shape.get("earlier", 0)
    sizes = ", ".join(f"{role} {size:,}" for role, size in shape["messages"])
    earlier = f"{shape['earlier']} earlier ones {shape['earlier_size']:,}, " if shape.get("earlier") else ""
    parts = [f"{count} message{'s' * (count != 1)} ({earlier}{sizes} characters)"]
    if shape.get("context"):
        parts.append(f"context of {shape['context']:,} characters")
    if tools := shape.get("tools"):
        parts.append(f"{len(tools)} tool{'s' * (len(tools) != 1)} of {sum(tools):,} characters")
    said = {"messages", "earlier", "earlier_size", "context", "tools", "format_size", "cut", "model"}
    parts += [f"{name.replace('_', ' ')} {_plain(value)}" for name, value in shape.items() if name not in said]
    return f"for {shape['model']}: {'; '.join(parts)}"


def _plain(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list | tuple) else str(value)


def _trimmed(row: LedgerEntry) -> str:
    if not row.trimmed_tokens:
        return ""
    cut = " and ".join((row.shape or {}).get("cut", ())) or "the prompt"
    return f"{row.trimmed_tokens:,} tokens of {cut}"


def _semantic(row: LedgerEntry) -> str:
    if row.story.hit:
        return f"answered it with {row.story.hit}{_age(row)}"
    return f"served nothing: {row.story.missed}" if row.story.missed else ""


def _age(row: LedgerEntry) -> str:
    return "" if row.story.age_s is None else f", stored {row.story.age_s:,.0f} s before"


def _near(row: LedgerEntry) -> Table:
    needed = row.story.needed
    table = Table("entry", "cosine", "its answer does, probably", "")
    for near in row.story.near:
        served = "its scope was off" if near.scope_off else ""
        if near.entry_id == row.story.hit:
            served = "served"
        elif needed is not None and near.probability <= needed:
            served = f"not sure enough: {needed:.2%} were needed"
        table.add_row(*map(Text, (near.entry_id, f"{near.cosine:.3f}", f"{near.probability:.2%}", served)))
    return table


def _router(row: LedgerEntry) -> str:
    scores = row.story.scores
    if scores is None:
        return ""
    because = "" if scores.reason == row.reason else f"; {scores.reason}"
    heads = "" if scores.small is None or scores.large is None else f" ({scores.large:.3f} - {scores.small:.3f})"
    if scores.threshold is None:
        against = "no score is enough" if scores.tier == "small" else "whatever it is"
    else:
        against = f"large from {scores.threshold:+.3f}"
    return f"{scores.tier} first: score {scores.score:+.3f}{heads}, {against}, from {scores.labels:,} labels{because}"


def _verdicts(row: LedgerEntry) -> Iterator[tuple[str, str]]:
    for verdict in row.story.verdicts:
        said = "passed" if verdict.check is None else f"failed {verdict.check}"
        yield f"the {verdict.tier} model's answer", f"{said}: {verdict.reason}" if verdict.reason else said


def _bill(row: LedgerEntry) -> Iterator[tuple[str, str]]:
    parts = " + ".join(cents(call.cost_usd) for call in row.calls)
    total = f"{cents(row.cost_usd)} ¢"
    yield "cost", f"{parts} = {total}" if len(row.calls) > 1 else total
    would = row.cost_usd + row.saved_usd
    if would and row.baseline is not None:  # without an answer nothing is compared
        yield "saved", f"{cents(row.saved_usd)} ¢, of {cents(would)} ¢ that the large model would have cost untrimmed"
    yield "", "estimated in part: a provider has not reported its usage" if row.estimated else ""


def _section(title: str, part: Any) -> Group:
    return Group(Text(), Text(title, style="bold"), Padding(part, (0, 0, 0, 2), expand=False))


def _grid(pairs: Any) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in pairs:
        if value:
            table.add_row(Text(name, style="cyan"), plain(value))
    return table
