"""Tests of what looks back at the ledger."""
