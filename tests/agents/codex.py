"""Codex CLI, over one WebSocket or over HTTP, with names of models that it knows or not."""

import json
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
    """Call what this model name is given: functions, a custom tool for patches, or one that runs JavaScript."""
    names = _names(body)
    name, given = _tool_of(action, has_patches="exec_command" not in names or "apply_patch" in names)
    if "exec_command" in names:
        return Call(name, given)
    return Call("exec", f"text(await tools.{name}({json.dumps(given)}))", "functions")


def _tool_of(action: Action, *, has_patches: bool) -> tuple[str, Fields | str]:
    match action:
        case Read(file):
            return "exec_command", {"cmd": f"cat {file}"}
        case Run(command):
            return "exec_command", {"cmd": command}
        case Edit(file, old, new) if has_patches:
            return "apply_patch", f"*** Begin Patch\n*** Update File: {file}\n@@\n-{old}\n+{new}\n*** End Patch\n"
        case Edit(file, old, new):
            return "exec_command", {"cmd": f"sed -i {shlex.quote(f's#{old}#{new}#')} {file}"}


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
        compacts="CONTEXT CHECKPOINT COMPACTION",
        files={".codex/config.toml": config},
        environ={"RUST_LOG": "warn"},
        complaint=re.compile(r"\b(WARN|ERROR|warning|error)\b"),
        harmless=re.compile(
            "Unknown model|Model metadata for|curated plugin|failed to flush rollout|didn't complete gracefully"
        ),
    )
