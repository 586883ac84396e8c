"""Whether streams notice that models, prices, limits and keys change: each must end whole, at the price it began with.

    python -m tests.measure_reload [--streams 1000] [--changes 10] [--tokens 200] [--rate 2] [--json]

A server of its own process, and two simulated models that take turns as the small one. Between two changes some more
streams begin, so that all of them run through those that follow. A change writes another model, address, price and
limit to the file and runs `millrace reload`; then the key is rotated. `cut` counts streams that did not end whole,
`misbilled` those whose client was told another price than the one that they began with, `misbooked` those of which the
ledger says so.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from millrace import log
from millrace.simulator import SMALL, Simulator
from tests.support import changing
from tests.support.keys import add_key
from tests.support.processes import ENVIRONMENT, address, spawn
from tests.support.server import configuration_for, without_delays
from tests.support.tables import print_figures


@click.command(help=__doc__)
@click.option("--streams", default=1000, show_default=True)
@click.option("--changes", default=10, show_default=True)
@click.option("--tokens", default=200, show_default=True, help="Of each answer.")
@click.option("--rate", default=2.0, show_default=True, help="Tokens a second.")
@click.option("--json", "as_json", is_flag=True)
def main(streams: int, changes: int, tokens: int, rate: float, *, as_json: bool) -> None:
    """Measure, and print a table."""
    log.configure(level="error")
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(_measure(Path(folder), streams, changes, tokens, rate))
    figures = asdict(found)
    why, times = figures.pop("why"), figures.pop("reload_s")
    figures["longest reload s"] = max(times, default=0.0)
    print_figures({f"{streams} streams, {changes} changes": figures}, as_json=as_json)
    for each in why[:5]:
        click.echo(each, err=True)
    sys.exit(1 if found.cut or found.misbilled or found.misbooked else 0)


async def _measure(folder: Path, streams: int, changes: int, tokens: int, rate: float) -> changing.Outcome:
    key = await asyncio.to_thread(add_key, folder)
    config = folder / "millrace.toml"
    async with Simulator(without_delays(SMALL)) as one, Simulator(without_delays(SMALL)) as other:
        base_urls = [one.base_url, other.base_url]
        configuration = configuration_for(*base_urls, data_dir=str(folder), max_running=2 * streams)
        configuration["server"]["memory_bytes"] = 2 * 2**30
        changing.write(configuration, 0, base_urls)
        config.write_text(_toml(configuration))

        async def change(number: int) -> None:
            changing.write(configuration, number, base_urls)
            config.write_text(_toml(configuration))
            command = [sys.executable, "-m", "millrace", "reload", "--config", str(config)]
            done = await asyncio.create_subprocess_exec(*command, env=ENVIRONMENT, stdout=subprocess.PIPE)
            printed, _ = await done.communicate()
            assert done.returncode == 0, printed
            assert b"models.small.price.output" in printed

        with spawn(
            "server", "serve", "--config", str(config), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            reading = None
            try:
                url = await asyncio.to_thread(address, process)
                assert process.stderr is not None
                reading = asyncio.create_task(asyncio.to_thread(process.stderr.read))  # a full pipe would stop it
                return await changing.run(
                    url,
                    folder,
                    base_urls,
                    change,
                    key=key,
                    streams=streams,
                    changes=changes,
                    tokens=tokens,
                    rate=rate,
                )
            finally:
                process.terminate()
                if reading is not None:
                    with suppress(ValueError):
                        await reading


def _toml(tree: dict[str, Any], path: str = "") -> str:
    """Write a configuration as TOML: its values are JSON's too."""
    lines = [f"[{path}]"] if path else []
    lines += [f"{name} = {json.dumps(value)}" for name, value in tree.items() if not isinstance(value, dict)]
    sections = [
        _toml(value, f"{path}.{name}" if path else name) for name, value in tree.items() if isinstance(value, dict)
    ]
    return "\n".join([*lines, *sections, ""])


if __name__ == "__main__":
    main()
