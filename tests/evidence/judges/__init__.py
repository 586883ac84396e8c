"""The judges of two answers."""
