"""The exact and the semantic cache."""
