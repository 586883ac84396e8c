"""Conversations as a server sent them; `python -m tests.support.captured.capture` writes them."""
