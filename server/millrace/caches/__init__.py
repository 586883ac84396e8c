"""Caches of earlier answers: exact, by the key of the whole request, and semantic, by the meaning of the question."""
