"""Claude Code."""

import re

from tests.agents.agent import Agent
from tests.agents.answers import Call, Fields
from tests.agents.environment import CLAUDE
from tests.agents.recipes import exported
from tests.agents.work import Action, Edit, Read, Run


def _call_of(action: Action, body: Fields) -> Call:
    match action:
        case Read(file):
            return Call("Read", {"file_path": f"{_folder(body)}/{file}"})
        case Edit(file, old, new):
            return Call("Edit", {"file_path": f"{_folder(body)}/{file}", "old_string": old, "new_string": new})
        case Run(command):
            return Call("Bash", {"command": command, "description": "Runs a command"})


def _folder(body: Fields) -> str:
    """Return the working folder, which the agent tells its model."""
    found = re.search(r"(/[^\s\"\\]*/work)\b", str(body))
    assert found
    return found[1]


def _command(prompt: str, *more: str) -> list[str]:
    asked = ("-p", prompt, "--output-format", "json", "--debug", "--allowedTools", "Read Edit Bash")
    return [str(CLAUDE), *more, *asked]


AGENT = Agent(
    name="claude-code",
    begin=_command,
    go_on=lambda prompt: _command(prompt, "--continue"),
    call_of=_call_of,
    compacts="detailed summary of",
    environ={**exported("Claude Code"), "CLAUDE_CODE_AUTO_COMPACT_WINDOW": "200000"},
    logs=".claude/debug/*.txt",
    complaint=re.compile(r"\[(WARN|ERROR)\]"),
    harmless=re.compile(
        "Failed to save config with lock|tool_dispatch_end|Request was aborted|autocompact: fixed prefix"
    ),
)
