"""Adapters of the `Upstream` port: the APIs of model providers."""
