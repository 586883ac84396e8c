"""Codex CLI, over one WebSocket or over HTTP, with names of models that it knows or not."""

import re
import shlex
from functools import partial

from tests.agents.agent import Agent
from tests.agents.answers import Call, Fields
from tests.agents.environment import CODEX
from tests.agents.recipes import recipe
from tests.agents.work import Action, Edit, Read, Run

RECIPE = recipe("Codex CLI")
OVER_HTTP = "".join(line for line in RECIPE.splitlines(keepends=True) if "supports_websockets" not in line)


def _call_of(action: Action, body: Fields) -> Call:
    """Call the tool that this model name is given: a patch may be a custom tool, or a command."""
    names = _names(body)
    match action:
        case Read(file):
            return _run(f"cat {file}", names)
        case Run(command):
            return _run(command, names)
        case Edit(file, old, new):
            patch = f"*** Begin Patch\n*** Update File: {file}\n@@\n-{old}\n+{new}\n*** End Patch\n"
            if "apply_patch" in names:
                return Call("apply_patch", patch)
            return _run(f"sed -i {shlex.quote(f's#{old}#{new}#')} {file}", names)


def _run(command: str, names: set[str]) -> Call:
    return Call("exec_command", {"cmd": command})


def _names(body: Fields) -> set[str]:
    """Return the names of the tools of a request, in whichever API."""
    tools = [tool.get("function", tool) for tool in body["tools"]]
    return {tool["name"] for tool in tools if "name" in tool}


def _command(model: str, prompt: str, *resume: str) -> list[str]:
    flags = ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "-m", model)
    return [str(CODEX), "exec", *resume, *flags, prompt]


def agent(name: str, config: str, model: str) -> Agent:
    """Return one with this configuration, and this name of a model."""
    return Agent(
        name=name,
        begin=partial(_command, model),
        go_on=lambda prompt: _command(model, prompt, "resume", "--last"),
        call_of=_call_of,
        files={".codex/config.toml": config},
        environ={"RUST_LOG": "warn"},
        complaint=re.compile(r"\b(WARN|ERROR|warning|error)\b"),
    )
