"""`millrace init`: writes a commented configuration, and says what to do next."""

import os
from pathlib import Path

import click
from rich.console import Console

from millrace.cli import configuration

PACKAGED = Path(__file__).with_name("millrace.toml")  # in a wheel
TEMPLATE = PACKAGED if PACKAGED.is_file() else Path(__file__).parents[3] / "millrace.toml"  # in a checkout

# What the template says -> what it says for OpenAI. The simulated models have the same prices.
_OPENAI = {
    'base_url = "http://127.0.0.1:9001/v1"': 'base_url = "https://api.openai.com/v1"',
    'base_url = "http://127.0.0.1:9002/v1"': 'base_url = "https://api.openai.com/v1"',
    'model = "small-fast-model"': 'model = "gpt-4o-mini"',
    'model = "large-strong-model"': 'model = "gpt-4o"',
    '# api_key_env = "SMALL_KEY"     #': 'api_key_env = "OPENAI_API_KEY"  #',
    '# api_key_env = "LARGE_KEY"': 'api_key_env = "OPENAI_API_KEY"',
}
_KEY = "OPENAI_API_KEY"


@click.command()
@configuration.config_option
@click.option("--force", is_flag=True, help="Overwrite the file.")
@click.option(
    "--models",
    type=click.Choice(["simulated", "openai"]),
    help=f"The models to write: OpenAI's, or simulated ones, which need no key.  [default: openai if {_KEY} is set]",
)
def init(config: Path, models: str | None, *, force: bool) -> None:
    """Write a commented configuration file."""
    models = models or ("openai" if os.environ.get(_KEY) else "simulated")
    try:
        with config.open("w" if force else "x", encoding="utf-8") as file:
            file.write(template(models))
    except FileExistsError:
        raise click.ClickException(f"{config} exists; edit it, or overwrite it with --force") from None
    except OSError as error:
        raise click.ClickException(f"{config} cannot be written: {error.strerror}") from None
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{config} is written, with {_DESCRIPTIONS[models]}. Next:\n", markup=False)
    for step, remark in _steps(models, "" if config == Path("millrace.toml") else f" --config {config}"):
        console.print(f"  {step:<40}", f"[dim]# {remark}[/]" if remark else "")
    if models == "simulated":
        advice = "set base_url, model, price and api_key_env of both models in it"
        console.print(f"\nYour own models: {advice}, then run: {configuration.program()} doctor", markup=False)


_DESCRIPTIONS = {
    "simulated": "two simulated models, which need no key and cost nothing",
    "openai": "gpt-4o-mini and gpt-4o of OpenAI",
}


def template(models: str) -> str:
    """Return the text of a configuration with these models."""
    text = TEMPLATE.read_text("utf-8")
    for old, new in _OPENAI.items() if models == "openai" else ():
        text = text.replace(old, new)
    return text


def _steps(models: str, config: str) -> list[tuple[str, str]]:
    """Return commands to run, one after the other, and what each does."""
    program = configuration.program()
    before = [(f"{program} simulate", "the two models; leave it running, and go on in another terminal")]
    if models == "openai":
        before = [] if os.environ.get(_KEY) else [(f"export {_KEY}=...", "your key")]
    return [
        *before,
        (f"{program} doctor{config}", "asks each model one word, and says what is wrong"),
        (f"{program} serve{config}", "leave it running, and go on in another terminal"),
        (f'{program} ask "What is a millrace?"', ""),
    ]
