"""What is run: an agent, and the API of the models behind Millrace."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.agents import claude_code, codex, opencode
from tests.agents.agent import Agent
from tests.agents.audit import bill_of, faults_of
from tests.agents.environment import variables
from tests.agents.gateway import gateway
from tests.agents.model import Model, modelling
from tests.agents.work import BEGUN, DONE, PHASES, PROMPTS
from tests.support.waiting import until

PATIENCE_S = 240  # of a process of an agent
GONE_S = 60  # for the socket of a model, after Ctrl-C
APIS = ("openai", "responses", "anthropic")


@dataclass(frozen=True, slots=True)
class Scenario:
    """An agent and the API behind."""

    agent: Agent
    api: str

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        return f"{self.agent.name}-over-{self.api}"


UNKNOWN, KNOWN, NEWEST = "a-model-that-codex-does-not-know", "gpt-5.5", "gpt-6.2-sol"
AGENTS = (
    codex.agent("codex-websocket-unknown", codex.RECIPE, UNKNOWN),
    codex.agent("codex-websocket-known", codex.RECIPE, KNOWN),
    codex.agent("codex-websocket-newest", codex.RECIPE, NEWEST),
    codex.agent("codex-http-unknown", codex.OVER_HTTP, UNKNOWN),
    codex.agent("codex-http-known", codex.OVER_HTTP, KNOWN),
    codex.agent("codex-http-newest", codex.OVER_HTTP, NEWEST),
    claude_code.AGENT,
    opencode.agent("opencode-chat", opencode.COMPATIBLE),
    opencode.agent("opencode-responses", opencode.RESPONSES),
)
SCENARIOS = {scenario.name: scenario for agent in AGENTS for api in APIS for scenario in [Scenario(agent, api)]}
SHORT = (  # each agent with chat completions, and with the API that it speaks itself
    "codex-websocket-unknown-over-openai",
    "codex-websocket-known-over-responses",
    "codex-websocket-newest-over-responses",
    "codex-http-known-over-openai",
    "claude-code-over-openai",
    "claude-code-over-anthropic",
    "opencode-chat-over-openai",
    "opencode-responses-over-responses",
)


class Run:
    """A scenario in an empty folder; `say` gets what happens. `faults` is what was not as it must be."""

    def __init__(self, scenario: Scenario, folder: Path, say: Callable[[str], None]) -> None:
        self.faults: list[str] = []
        self._scenario = scenario
        self._agent = scenario.agent
        self._folder = folder
        self._home, self._work, self._data = (folder / name for name in ("home", "work", "data"))
        self._say = say

    async def through(self) -> None:
        """Run all of it."""
        for path in (self._home, self._work, self._data):
            path.mkdir(parents=True)
        texts = {self._work / name: text for name, text in BEGUN.items()}
        texts |= {self._home / name: text for name, text in self._agent.files.items()}
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        model = Model(self._agent.call_of, self._agent.compacts, partial(self._agent.keeps, self._scenario.api))
        async with modelling(self._scenario.api, model):
            async with gateway(self._data, self._scenario.api, model.server.url) as ran:
                for number in range(len(PHASES)):
                    await self._phase(number, model)
            model.go(())
            (self._folder / "asked.json").write_text(json.dumps(model.server.asked, indent=1), "utf-8")
            self.faults += faults_of(model, ran, self._agent, self._home)
            self._say(bill_of(ran.rows()))
        on_disk = {path.name: path.read_text("utf-8") for path in self._work.iterdir() if path.is_file()}
        if on_disk != DONE:
            self.faults.append(f"the files are {on_disk}")

    async def _phase(self, number: int, model: Model) -> None:
        """Let a process of the agent do its share."""
        model.go(PHASES[number])
        now = asyncio.get_running_loop().time
        began, before = now(), len(model.kinds)
        log = self._home / f"printed-{number}.log"
        process = await self._started(number, log)
        try:
            async with asyncio.timeout(PATIENCE_S):
                if PHASES[number][-1].is_held:
                    await model.server.begun.wait()
                    os.killpg(process.pid, signal.SIGINT)
                    stopped = now()
                    await until(lambda: model.server.left_at is not None, GONE_S)
                    self._say(f"the model was left {(model.server.left_at or 0) - stopped:.3f} s after Ctrl-C")
                    await process.wait()
                elif code := await process.wait():
                    self.faults.append(f"process {number} ended with {code}: {log.read_text('utf-8')[-600:]}")
        except TimeoutError:
            self.faults.append(f"process {number} was not done in time: {log.read_text('utf-8')[-600:]}")
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        answers = len(model.kinds) - before
        self._say(f"process {number}: {now() - began:.1f} s, {answers} answers, exit code {process.returncode}")

    async def _started(self, number: int, log: Path) -> asyncio.subprocess.Process:
        command = (self._agent.go_on if number else self._agent.begin)(PROMPTS[number])
        with log.open("wb") as file:
            return await asyncio.create_subprocess_exec(
                *command,
                cwd=self._work,
                env=variables(self._home) | dict(self._agent.environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # so that its children end with it
            )
