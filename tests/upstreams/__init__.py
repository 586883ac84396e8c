"""Calls to a provider."""
