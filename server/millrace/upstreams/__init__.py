"""Providers' APIs behind the `Upstream` port."""
