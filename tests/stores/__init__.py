"""What is kept in SQLite: ledger, limits."""
