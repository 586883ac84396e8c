"""Providers that are as strict as the real ones: what they refuse is on docs/providers.md, with where it was seen."""
