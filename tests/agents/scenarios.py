"""What is run: an agent, and the API of the models behind Millrace."""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.agents import claude_code, codex, opencode
from tests.agents.agent import Agent
from tests.agents.audit import faults_of
from tests.agents.environment import variables
from tests.agents.gateway import gateway
from tests.agents.model import Model, modelling
from tests.agents.work import BEGUN, DONE, PHASES, PROMPTS

PATIENCE_S = 280  # of a process of an agent
GONE_S = 20  # for the socket of a model, after Ctrl-C


@dataclass(frozen=True, slots=True)
class Scenario:
    """An agent and the API behind."""

    agent: Agent
    api: str

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        return f"{self.agent.name}-over-{self.api}"


WS_UNKNOWN = codex.agent("codex-websocket-unknown", codex.RECIPE, "a-model-that-codex-does-not-know")
WS_KNOWN = codex.agent("codex-websocket-known", codex.RECIPE, "gpt-5.5")
HTTP_UNKNOWN = codex.agent("codex-http-unknown", codex.OVER_HTTP, "a-model-that-codex-does-not-know")
HTTP_KNOWN = codex.agent("codex-http-known", codex.OVER_HTTP, "gpt-5.5")
WS_NEWEST = codex.agent("codex-websocket-newest", codex.RECIPE, "gpt-6.2-sol")
CHAT = opencode.agent("opencode-chat", opencode.COMPATIBLE)
RESPONSES = opencode.agent("opencode-responses", opencode.RESPONSES)
AGENTS = (WS_UNKNOWN, WS_KNOWN, WS_NEWEST, HTTP_UNKNOWN, HTTP_KNOWN, claude_code.AGENT, CHAT, RESPONSES)
SCENARIOS = {one.name: one for agent in AGENTS for api in ("openai", "responses", "anthropic") for one in [Scenario(agent, api)]}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process of an agent ended."""

    code: int | None
    printed: str


async def run(scenario: Scenario, folder: Path) -> list[str]:
    """Run one, whose files are left in an empty folder; return what was not as it must be."""
    home, work, data = (folder / name for name in ("home", "work", "data"))
    for path in (home, work, data):
        path.mkdir(parents=True)
    for name, text in BEGUN.items():
        (work / name).write_text(text, "utf-8")
    for name, text in scenario.agent.files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text, "utf-8")
    faults: list[str] = []
    async with modelling(scenario.api, scenario.agent.call_of, scenario.agent.compacts) as model:
        async with gateway(data, scenario.api, model.server.url) as ran:
            for number, prompt in enumerate(PROMPTS):
                faults += await _phase(scenario.agent, model, number, prompt, home, work)
                (folder / "asked.json").write_text(json.dumps(model.server.asked, indent=1), "utf-8")
        model.go(())
        (folder / "asked.json").write_text(json.dumps(model.server.asked, indent=1), "utf-8")
        faults += faults_of(model, ran, scenario.agent, home)
    on_disk = {path.name: path.read_text("utf-8") for path in work.iterdir() if path.is_file()}
    if on_disk != DONE:
        faults.append(f"the files are {on_disk}")
    return faults


async def _phase(agent: Agent, model: Model, number: int, prompt: str, home: Path, work: Path) -> list[str]:
    """Let a process of the agent do its share; return what was not as it must be."""
    model.go(PHASES[number])
    command = agent.go_on(prompt) if number else agent.begin(prompt)
    log = home / f"printed-{number}.log"
    faults: list[str] = []
    started = time.monotonic()
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=work,
            env=variables(home) | dict(agent.environ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # so that its children end with it
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                if is_held := PHASES[number][-1].is_held:
                    await model.server.begun.wait()
                    os.killpg(process.pid, signal.SIGINT)
                    stopped_at = asyncio.get_running_loop().time()
                await process.wait()
            if is_held:
                async with asyncio.timeout(GONE_S):
                    while model.server.left_at is None:
                        await asyncio.sleep(0.05)
                print(f"the model was left {model.server.left_at - stopped_at:.3f} s after Ctrl-C")
            elif process.returncode:
                faults.append(f"process {number} ended with {process.returncode}")
        except TimeoutError:
            faults.append(f"process {number} was not done in {PATIENCE_S} s: {log.read_text('utf-8', 'replace')[-600:]}")
        finally:
            if process.returncode is None:
                os.killpg(process.pid, 9)
                await process.wait()
    print(f"process {number}: {time.monotonic() - started:.1f} s, exit code {process.returncode}, {Counter(model.kinds)}")
    return faults
