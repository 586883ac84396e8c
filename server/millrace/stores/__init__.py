"""What is kept: the ledger, stored responses and keys in SQLite, and the limits in memory."""
