"""Projections of a response's log: numbered events of one dialect, which can be replayed."""
