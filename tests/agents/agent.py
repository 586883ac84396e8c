"""What is known of an agent, whichever it is."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.agents.model import CallOf

NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """How one is set up, started and read."""

    name: str
    begin: Callable[[str], list[str]]  # a prompt -> the command
    go_on: Callable[[str], list[str]]  # the command that continues the latest session
    call_of: CallOf
    files: Mapping[str, str] = field(default_factory=dict)  # of its home
    compacts: str = ""  # what it asks for when the window is full; empty: it does not do that by itself
    keeps: Callable[[str, bool], bool] = lambda _api, _has_calls: True  # the thoughts of an answer, by the model's API
    environ: Mapping[str, str] = field(default_factory=dict)
    logs: str = ""  # the files in its home that are its logs, beside what it prints
    complaint: re.Pattern[str] = NOTHING  # of its own logs; a line that is one
    harmless: re.Pattern[str] = NOTHING  # what such a line may say: it is about no answer
