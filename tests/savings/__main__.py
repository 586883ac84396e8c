"""What each lever takes off one mixed bill, in dollars and milliseconds, and at which quality.

    python -m tests.savings [--mix FILE] [--lever NAME ...] [--json FILE] [--plot FILE]

One workload is sent to two simulated models through Millrace, each a process of its own: without any lever (the large
model answers everything), with each lever alone, and with all. Which answers are right the simulated models say: an
answer is right if it is the large model's, word for word. Bills are those of the ledger. Before `auto` is asked, the
router is calibrated by `millrace calibrate`, on questions that are not asked again. Some minutes.
"""

import asyncio
import tempfile
from decimal import Decimal
from functools import partial
from pathlib import Path

import click
from msgspec.structs import replace
from rich.console import Console
from rich.progress import Progress, TaskID

from millrace import log
from tests.savings import report, stage
from tests.savings.figures import Figures, figures, waterfall
from tests.savings.levers import BY_NAME, setups
from tests.savings.mix import Mix
from tests.savings.workload import Workload

HERE = Path(__file__).parent


@click.command(help=__doc__)
@click.option("--mix", "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=HERE / "mix.toml")
@click.option(
    "--lever", "levers", multiple=True, type=click.Choice([*BY_NAME]), help="These alone, beside none and all."
)
@click.option("--requests", type=click.IntRange(1), help="In place of the mix's.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write all figures to this file.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Write the table of the README to this file.")
@click.option("--plot", type=click.Path(path_type=Path), default=Path("savings.svg"), show_default=True)
def main(
    *, file: Path, levers: tuple[str, ...], requests: int | None, output: Path | None, markdown: Path | None, plot: Path
) -> None:
    """See above."""
    log.configure(level="error")
    try:
        mix = Mix.read(file)
    except (ValueError, OSError) as error:
        raise click.BadParameter(str(error), param_hint="--mix") from None
    mix = mix if requests is None else replace(mix, requests=requests)
    console = Console(stderr=True, highlight=False)
    with tempfile.TemporaryDirectory() as name, Progress(console=console) as progress:
        found, bars, large_share = asyncio.run(_measure(mix, levers, Path(name), progress))
    report.show(Console(width=170, highlight=False), mix, found, bars)
    plot.write_text(report.svg(found[0], bars, found), "utf-8")
    console.print(f"plot: {plot}")
    if output is not None:
        output.write_bytes(report.as_json(mix, found, bars, large_share))
    if markdown is not None:
        markdown.write_text(report.markdown(found, bars), "utf-8")
    if any(one.faults for one in found) or not all(holds for _, holds in report.promises(found).values()):
        raise SystemExit(1)


async def _measure(
    mix: Mix, levers: tuple[str, ...], folder: Path, progress: Progress
) -> tuple[list[Figures], dict[str, Decimal], float | None]:
    runs = setups(levers)
    every = progress.add_task("all runs", total=mix.requests * len(runs))
    task = progress.add_task("calibrating the router", total=None)
    calibrated = await asyncio.to_thread(stage.calibrate, mix, folder / "calibrated")
    progress.remove_task(task)
    ran = []
    for setup in runs:
        task = progress.add_task(setup.name, total=mix.requests)

        at = folder / setup.name.replace(" ", "-")
        ran.append(await stage.run(setup, mix, Workload(mix), at, calibrated, partial(_advance, progress, task, every)))
        progress.remove_task(task)
    large_share = None if calibrated is None else calibrated.large_share
    return [figures(each) for each in ran], waterfall(ran[0], ran[-1], mix), large_share


def _advance(progress: Progress, *tasks: TaskID) -> None:
    for task in tasks:
        progress.advance(task)


if __name__ == "__main__":
    main()
