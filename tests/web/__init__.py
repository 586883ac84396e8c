"""Connections, sessions and HTTP."""
