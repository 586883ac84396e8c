"""Stored state: the ledger, stored responses and keys in SQLite, and the limits per key in memory."""
