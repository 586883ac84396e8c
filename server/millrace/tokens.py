"""Token counts where no provider has reported any."""

from millrace.types import Prompt

BYTES_PER_TOKEN = 3  # low on purpose: an estimate that bounds a budget should err upwards


def estimate(size: int) -> int:
    """Return ceil(UTF-8 bytes / 3)."""
    return -(-size // BYTES_PER_TOKEN)


def estimate_prompt(prompt: Prompt) -> int:
    """Return the estimated input tokens of a prompt."""
    parts = (part for message in prompt.messages for part in message.parts)
    return estimate(sum(len(part.encode("utf-8", "surrogatepass")) for part in parts))
