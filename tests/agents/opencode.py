"""opencode, with its provider of chat completions or with that of the Responses API."""

import re

from tests.agents.agent import Agent
from tests.agents.answers import Call, Fields
from tests.agents.environment import OPENCODE
from tests.agents.recipes import recipe
from tests.agents.work import Action, Edit, Read, Run

RECIPE = recipe("opencode")
COMPATIBLE, RESPONSES = "@ai-sdk/openai-compatible", "@ai-sdk/openai"


def _call_of(action: Action, _: Fields) -> Call:
    match action:
        case Read(file):
            return Call("read", {"filePath": file})
        case Edit(file, old, new):
            return Call("edit", {"filePath": file, "oldString": old, "newString": new})
        case Run(command):
            return Call("bash", {"command": command, "description": "Runs a command"})


def _command(prompt: str, *more: str) -> list[str]:
    return [str(OPENCODE), "run", *more, "--print-logs", "--log-level", "WARN", prompt]


def _keeps_in_chat(api: str, has_calls: bool) -> bool:
    """Whether thoughts come back: what only one API understands is kept with the calls of tools, and nowhere else."""
    return api == "openai" or has_calls


def _keeps_in_responses(api: str, _: bool) -> bool:
    """Whether thoughts come back: those that their provider can read itself; a text of reasoning is not kept."""
    return api != "openai"


_keeps = {COMPATIBLE: _keeps_in_chat, RESPONSES: _keeps_in_responses}


def agent(name: str, provider: str) -> Agent:
    """Return one with this provider."""
    return Agent(
        name=name,
        begin=_command,
        go_on=lambda prompt: _command(prompt, "--continue"),
        call_of=_call_of,
        files={".config/opencode/opencode.json": RECIPE.replace(COMPATIBLE, provider)},
        keeps=_keeps[provider],
        complaint=re.compile(r"^(WARN|ERROR)\b"),
    )
