"""What a conversation has said so far, how its next turn is asked, and what it has cost."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from millrace.wire import responses as wire
from millrace_client.commands import dollars
from millrace_client.sync import SyncClient, SyncStream

Turn = tuple[str, str]  # role and text


@dataclass(slots=True, kw_only=True)
class Conversation:
    """Turns, and the options of those that follow.

    The whole of it is sent with each turn, so it outlives the server. A turn survives a lost connection: it is resumed,
    and sent again only under its own idempotency key, so that nothing is billed twice.
    """

    options: dict[str, Any]
    turns: list[Turn] = field(default_factory=list)
    unanswered: str | None = None  # the last question, if nothing came of it
    answered: int = 0
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    session: str = field(default_factory=lambda: f"chat-{secrets.token_hex(8)}")

    def ask(self, client: SyncClient, question: str) -> SyncStream:
        """Send the next turn."""
        self.unanswered = None
        self.turns.append(("user", question))
        return client.stream(
            [{"role": role, "content": text} for role, text in self.turns],
            prompt_cache_key=self.session,
            on_disconnect="detach",
            idempotency_key=secrets.token_hex(16),
            **self.options,
        )

    def take(self, response: wire.ResponseBody | None, text: str) -> None:
        """Keep what the turn has brought: also the beginning of an answer that was stopped. Without text, nothing."""
        if response is not None and response.usage is not None:
            self.cost_usd += response.usage.cost_usd
            self.saved_usd += response.usage.saved_usd
        if text:
            self.turns.append(("assistant", text))
            self.answered += 1
        else:
            _, self.unanswered = self.turns.pop()

    def again(self) -> str | None:
        """Forget the last question and its answer, and return the question; None if there is none."""
        question, self.unanswered = self.unanswered, None
        if question is not None:
            return question  # it is no turn
        while self.turns:
            role, text = self.turns.pop()
            if role == "user":
                return text
        return None

    def begin_anew(self) -> None:
        """Forget all turns. What they cost stays counted."""
        self.turns.clear()
        self.unanswered = None
        self.session = f"chat-{secrets.token_hex(8)}"

    def bill(self) -> str:
        """Return what the conversation has cost so far."""
        answers = f"{self.answered} answer{'' if self.answered == 1 else 's'}"
        return f"{answers} · {dollars(self.cost_usd)} · saved {dollars(self.saved_usd)}"

    def transcript(self) -> str:
        """Return all turns as Markdown."""
        names = {"user": "You", "assistant": "Millrace"}
        return "\n\n".join(f"## {names[role]}\n\n{text}" for role, text in self.turns) + "\n"
