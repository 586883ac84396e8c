"""What is run: each scenario is one program of `clients/`, as a user would write it."""

import asyncio
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.stock.environment import BIN, HERE, variables

CLIENTS = HERE / "clients"
PROVIDERS = HERE / "providers"  # programs that meet every strict provider
SDKS = HERE / "scripted"  # programs that show that a scripted server speaks as its provider does
APIS = HERE / "apis"  # programs that meet models of every API
PATIENCE_S = 120
MAX_REASON = 300
COMMANDS = {".py": (str(BIN / "python"), "-P"), ".mjs": ("node",), ".sh": ("sh",)}  # -P: a script is no module
FAULT = re.compile(r"(\w+\.)*\w*(Error|Exception)\b")  # as Python, Node and click begin the line that says it
DIALECTS = {  # arguments of each
    "langchain": ("chat", "responses"),
    "llm": ("millrace", "millrace-responses"),
    "ai_sdk": ("chat", "responses", "compatible"),
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One program, and what it is started with."""

    client: str
    program: Path
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it shows."""
        return " ".join((self.program.stem.replace("_", " "), *self.arguments))


@dataclass(frozen=True, slots=True)
class Result:
    """How it went; `reason` is empty where all is well."""

    scenario: Scenario
    seconds: float
    reason: str


def _scenarios(folder: Path) -> tuple[Scenario, ...]:
    return tuple(
        Scenario(program.parent.name, program, (argument,) if argument else ())
        for program in sorted(folder.glob("*/*"))
        if program.suffix in COMMANDS
        for argument in DIALECTS.get(program.parent.name, ("",))
    )


SCENARIOS = _scenarios(CLIENTS)
ROUNDS = _scenarios(PROVIDERS)
SCRIPTED = _scenarios(SDKS)
EVERY_API = _scenarios(APIS)


async def run_all(base_url: str, scenarios: tuple[Scenario, ...] = SCENARIOS) -> list[Result]:
    """Run them one after the other; return the results in their order.

    Side by side two clients would now and then ask the same at once. The server joins such requests, one of them costs
    nothing, and a client that checks its cost fails.
    """
    return [await run(scenario, base_url) for scenario in scenarios]


async def run(scenario: Scenario, base_url: str, more: Mapping[str, str] | None = None) -> Result:
    """Run one in an empty home of its own. `more` are variables of its environment."""
    with TemporaryDirectory() as home:
        environment = {**variables(base_url, Path(home)), **(more or {})}
        _tell_llm(Path(environment["LLM_USER_PATH"]), base_url)
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *COMMANDS[scenario.program.suffix],
            str(scenario.program),
            *scenario.arguments,
            cwd=home,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # so that a shell's children end with it
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                out, _ = await process.communicate()
            reason = _reason(scenario, process.returncode, out.decode(errors="replace"))
        except TimeoutError:
            reason = f"not done in {PATIENCE_S} s"
        finally:
            if process.returncode is None:
                os.killpg(process.pid, 9)
                await process.wait()
        return Result(scenario, time.monotonic() - started, reason)


def _tell_llm(folder: Path, base_url: str) -> None:
    folder.mkdir()
    models = (CLIENTS / "llm" / "extra-openai-models.yaml").read_text("utf-8")
    (folder / "extra-openai-models.yaml").write_text(models.replace("$OPENAI_BASE_URL", base_url), "utf-8")


def _reason(scenario: Scenario, code: int | None, out: str) -> str:
    """Return what went wrong in the words of the program: where in it, and the fault."""
    if code == 0:
        return ""
    said = [line.strip() for line in out.splitlines() if line.strip()]
    where = re.findall(rf"{re.escape(str(scenario.program))}\D{{1,9}}(\d+)", out)
    faults = [line for line in said if FAULT.match(line)]
    reason = (faults or said or [f"exit code {code}"])[-1]
    return " · ".join([*(f"line {line}" for line in where[-1:]), reason[:MAX_REASON]])


def missing() -> str | None:
    """Return what of this machine is missing, if anything is."""
    return next((f"{name} is not installed" for name in ("node", "npm", "sh") if not shutil.which(name)), None)
