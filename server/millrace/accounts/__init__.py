"""Looks back at the ledger: what past requests saved by each lever, and what they would have cost otherwise."""
